import { formatBytes } from "../../gpu/common/format_bytes.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { type GpuModel, GPUS } from "../../model/estimate/gpus.ts";
import { formatDuration } from "../../tools/program/format_duration.ts";

/** What a training will do, and what it will take. */
export interface TrainingPlan {
  /** Sentences about the model, the clips and the data. */
  readonly lines: readonly string[];
  /** What --json prints of them. */
  readonly facts: Readonly<Record<string, unknown>>;
  /** Where the transformer's weights are. */
  readonly place: "resident" | "stream";
  /** Bytes of the GPU's memory at the peak, and of this machine's for what the GPU does not keep. */
  readonly memory: { readonly gpu: number; readonly host: number };
  /** What a step consists of, in a word, and about how many seconds each takes; undefined on an unknown GPU. */
  readonly unit: { readonly name: string; readonly perStep: number; readonly seconds: number | undefined };
}

/** The GPU of estimates, if it is known, and is used at the precision that they are for. */
export function knownGpu({ settings: { description, precision }, matrixUnits }: Gpu): GpuModel | undefined {
  const known = GPUS.find(({ matches }) => matches.test(description.name));
  if (!known || precision !== "f16") return undefined;
  if (matrixUnits) return known;
  // Without matrix units, it computes by its threads.
  const { matrix: _, ...threads } = known;
  return threads;
}

/** Prints a plan, with `say` or as JSON. */
export function printPlan(
  { lines, facts, place, memory, unit: { name, perStep, seconds } }: TrainingPlan,
  { steps, out, json, say }: {
    readonly steps: number;
    readonly out: string;
    readonly json: boolean;
    readonly say: (text: string) => void;
  },
): void {
  const all = seconds === undefined ? undefined : seconds * perStep * steps;
  if (json) {
    console.log(
      JSON.stringify({
        out,
        steps,
        ...facts,
        weights: place,
        memory: { gpu: memory.gpu, host: memory.host },
        unit: name,
        unitSeconds: seconds,
        seconds: all,
      }),
    );
    return;
  }
  const host = memory.host > 0 ? ` and ${formatBytes(memory.host)} of this machine's` : "";
  const time = all === undefined
    ? `Time: unknown for this GPU; the progress shows it after the first step.`
    : `Time: about ${formatDuration(all)} (${
      seconds!.toPrecision(2)
    } s a ${name}), without loading and what is prepared.`;
  say(
    [
      ...lines,
      `Memory: ${formatBytes(memory.gpu)} of the GPU's${host}; weights are ${
        place === "stream" ? "streamed from disk" : "on the GPU"
      }.`,
      time,
      `Nothing was loaded. Without --dry-run, this trains ${steps} steps into ${out}.`,
    ].join("\n"),
  );
}
