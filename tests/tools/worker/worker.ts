/// <reference lib="webworker" />
import { embeddedModelDir } from "../../../model/embedded.ts";
import { exists } from "../../../model/files/file_error.ts";

self.onmessage = async ({ data }) => {
  self.postMessage(`${data} ${await exists(`${embeddedModelDir()}/model_index.json`)}`);
};
