/// <reference lib="webworker" />
/**
 * The thread in which the program runs, with the rights of its command. What needs more, it asks of the main thread.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import { askOfProcesses, type Self } from "../../gpu/native/processes.ts";
import { handleSignals } from "../../tools/program/signals.ts";
import { main } from "../program.ts";
import { bundleStudioBy } from "../serve/studio.ts";
import { ask, type BundledStudio, type FromThread } from "./messages.ts";

const post = (message: FromThread) => self.postMessage(message);

askOfProcesses({
  self: () => ask({ self: true }, post) as Self,
  isRunning: (pid, start) => ask({ isRunning: [pid, start] }, post) as boolean,
});
bundleStudioBy(() => {
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array<ArrayBuffer>>();
  self.onmessage = ({ data }: MessageEvent<BundledStudio>) => {
    if ("script" in data) resolve(data.script);
    else reject(new TilereelError(data.error));
  };
  post({ bundleStudio: true });
  return promise;
});
handleSignals(exit);
exit(await main(Deno.args));

/** Ends the process. Nothing else happens in this thread meanwhile. */
function exit(status: number): never {
  post({ exit: status });
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}
