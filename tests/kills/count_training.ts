/**
 * A training that counts, in the folder and as many steps as the command line says, with a checkpoint after each. It
 * resumes if there is one.
 *
 * @module
 */
import { exists } from "../../model/files/file_error.ts";
import { readFloat32 } from "../../model/checkpoint/safetensors.ts";
import { writeSafetensors } from "../../model/checkpoint/write_safetensors.ts";
import { runTraining } from "../../model/training/loop.ts";

const [folder, steps] = Deno.args as [string, string];

await runTraining({
  result: "count.safetensors",
  identity: { by: 1 },
  open: async (checkpoint) => {
    let count = checkpoint ? (await readFloat32(checkpoint, "count"))[0]! : 0;
    const save = (path: string, metadata: Readonly<Record<string, string>>) =>
      writeSafetensors(
        path,
        { count: { dtype: "F32", shape: [1000], data: new Float32Array(1000).fill(count) } },
        metadata,
      );
    return {
      failsWhole: true,
      train: async (done, signal, onStep) => {
        for (let step = done + 1;; step++) {
          count += step;
          await onStep({ step });
          signal.throwIfAborted();
        }
      },
      saveCheckpoint: save,
      saveResult: save,
      [Symbol.dispose]() {},
    };
  },
}, { steps: Number(steps), folder, checkpointEvery: 1, resume: await exists(`${folder}/checkpoint.safetensors`) });
