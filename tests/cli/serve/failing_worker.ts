/**
 * The server's worker, for prompts that make it fail: "crash" ends it by an error that nobody catches, "lose" loses its
 * device in the middle of the clip, and "lose twice" the next one, too. Clips are kept after every
 * step.
 *
 * @module
 */
/// <reference lib="webworker" />
import { SAVING } from "../../../cli/generate/unfinished.ts";
import type { ToWorker } from "../../../cli/serve/messages.ts";
// Not by import(): messages that come while a module waits at its top level are lost in Deno.
import "../../../cli/serve/worker.ts";

Object.assign(SAVING, { clipTakes: 0, every: 0, read: 0 });

let device: GPUDevice | undefined, failing = "";

const { requestDevice } = GPUAdapter.prototype;
GPUAdapter.prototype.requestDevice = async function (descriptor) {
  device = await requestDevice.call(this, descriptor);
  return device;
};

self.addEventListener("message", ({ data }: MessageEvent<ToWorker>) => {
  failing = "clip" in data ? data.clip.prompt : "";
});
// Nothing is known of the time that a clip takes, so the failure comes with its first progress.
const { postMessage } = self;
self.postMessage = (message: { readonly progress?: { readonly stage: string } }) => {
  postMessage.call(self, message);
  if (message.progress?.stage !== "denoise") return;
  if (failing.startsWith("lose")) device!.destroy();
  if (failing === "crash") {
    setTimeout(() => {
      throw new Error("the driver is gone");
    });
  }
  failing = failing === "lose twice" ? "lose" : "";
};
