/**
 * The command line on a device that is lost after its Nth batch of work: `lose_device.ts N generate ...`.
 *
 * @module
 */
import { main } from "../cli/main.ts";

const [submissions, ...args] = Deno.args;
let left = Number(submissions);
const { requestDevice } = GPUAdapter.prototype;
GPUAdapter.prototype.requestDevice = async function (descriptor) {
  const device = await requestDevice.call(this, descriptor);
  const { submit } = GPUQueue.prototype;
  GPUQueue.prototype.submit = function (commands) {
    submit.call(this, commands);
    if (--left === 0) device.destroy();
  };
  return device;
};
Deno.exit(await main(args));
