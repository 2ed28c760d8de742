import { assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { openSafetensors, readFloat32 } from "../../../model/checkpoint/safetensors.ts";
import { writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { runTraining, type TrainingKind } from "../../../model/training/loop.ts";
import { NonFiniteError } from "../../../model/training/non_finite_error.ts";
import { inTempDir, listFiles } from "../../process.ts";

/** A training that counts: its state is the number of steps, and `failure` is thrown in the step that it names. */
function counting(failure?: { step: number; error: Error }, failsWhole = true): TrainingKind<{ step: number }> {
  return {
    result: "count.safetensors",
    identity: { by: 1 },
    open: async (checkpoint) => {
      let count = checkpoint ? (await readFloat32(checkpoint, "count"))[0]! : 0;
      const save = (path: string, metadata: Readonly<Record<string, string>>) =>
        writeSafetensors(path, { count: { dtype: "F32", shape: [1], data: Float32Array.of(count) } }, metadata);
      return {
        failsWhole,
        train: async (done, signal, onStep) => {
          for (let step = done + 1;; step++) {
            if (step === failure?.step) throw failure.error;
            count++;
            await onStep({ step });
            signal.throwIfAborted();
          }
        },
        saveCheckpoint: save,
        saveResult: save,
        [Symbol.dispose]() {},
      };
    },
  };
}

async function checkpointOf(folder: string): Promise<number[]> {
  using source = await openSafetensors(join(folder, "checkpoint.safetensors"));
  return [Number(source.metadata.step), (await readFloat32(source, "count"))[0]!];
}

Deno.test("the loop saves as often as asked, ends early, and resumes where it stopped", () =>
  inTempDir(async (dir) => {
    const folder = join(dir, "run"), seen: number[] = [], saved: number[][] = [];
    const controller = new AbortController();
    const onStep = ({ step }: { step: number }) => {
      seen.push(step);
      if (step === 5) controller.abort();
    };
    const options = { steps: 8, folder, checkpointEvery: 3, onStep };
    assertEquals(await runTraining(counting(), { ...options, signal: controller.signal }), 5);
    saved.push(await checkpointOf(folder));
    assertEquals(listFiles(folder), ["checkpoint.safetensors", "metrics.jsonl"]);
    const starts: number[] = [];
    const resumed = { ...options, resume: true, onStart: (step: number) => starts.push(step) };
    assertEquals(await runTraining(counting(), resumed), 8);
    saved.push(await checkpointOf(folder));
    assertEquals([starts, seen, saved], [[5], [1, 2, 3, 4, 5, 6, 7, 8], [[5, 5], [8, 8]]]);
    const log = await Deno.readTextFile(join(folder, "metrics.jsonl"));
    assertEquals(log, seen.map((step) => `{"step":${step},"steps":8}\n`).join(""));
    await assertRejects(
      () => runTraining({ ...counting(), identity: { by: 2 } }, resumed),
      TilereelError,
      "with different options: by was 1 and is 2",
    );
  }));

Deno.test("what a failed step leaves: the step before it, or the last checkpoint", () =>
  inTempDir(async (dir) => {
    const left = async (name: string, error: Error, failsWhole: boolean, message: string) => {
      const options = { steps: 8, folder: join(dir, name), checkpointEvery: 3 };
      await assertRejects(() => runTraining(counting({ step: 6, error }, failsWhole), options), Error, message);
      return await checkpointOf(options.folder);
    };
    assertEquals(await left("whole", new Error("lost"), true, "lost"), [5, 5]);
    assertEquals(await left("torn", new Error("lost"), false, "lost"), [3, 3]);
    const message = "training stopped at step 6: a number in layer 2 is not finite; train again with a lower learning";
    assertEquals(await left("nan", new NonFiniteError(2), true, message), [3, 3]);
  }));
