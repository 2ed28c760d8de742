/**
 * The command line on devices that are lost after their Nth batch of work: `lose_device.ts N generate ...`. With `Nx1`,
 * only the first one that comes so far is lost. It is known after every step how far a clip is.
 *
 * @module
 */
import { SAVING } from "../cli/generate/unfinished.ts";
import { main } from "../cli/program.ts";

const [given, ...args] = Deno.args;
const [submissions, losses = Infinity] = given!.split("x").map(Number) as [number, number?];
let lost = 0;
// The clips of tests are done before a second has passed.
SAVING.read = 0;
const { requestDevice } = GPUAdapter.prototype;
GPUAdapter.prototype.requestDevice = async function (descriptor) {
  const device = await requestDevice.call(this, descriptor), { queue } = device, submit = queue.submit.bind(queue);
  let left = submissions;
  queue.submit = (commands) => {
    submit(commands);
    if (--left > 0 || lost >= losses || left < 0) return;
    lost++;
    device.destroy();
  };
  return device;
};
Deno.exit(await main(args));
