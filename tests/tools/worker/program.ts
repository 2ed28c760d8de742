/** Starts a worker as the program does, and prints what it answers. */
import { workerUrl } from "../../../model/embedded.ts";

const worker = new Worker(workerUrl("tests/tools/worker/worker.ts"), { type: "module" });
worker.onmessage = ({ data }) => {
  console.log(data);
  worker.terminate();
};
worker.postMessage("is the demo model there?");
