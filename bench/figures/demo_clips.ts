import { Profiler } from "../../gpu/profile/profiler.ts";
import { kernelTimes } from "../../gpu/profile/summary.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import type { AttentionReport } from "../../model/attention/report.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import { type GenerateOptions, VideoPipeline } from "../../model/pipeline.ts";
import type { ClipValues } from "../../tools/program/clip/clip_options.ts";
import { clipSettings } from "../../tools/program/clip/clip_settings.ts";
import { readyMethods } from "../../tools/program/clip/method_options.ts";
import { parseSetting } from "../../tools/program/clip/setting.ts";
import { warmUp } from "../measure.ts";
import type { Size } from "../program.ts";

/** The settings that are timed, as `compare` takes them; full attention first. */
const SETTINGS: readonly string[] = [
  ...["full", "vorta", "vorta dense-steps=0", "veda keep=0.2", "veda keep=0.1", "veda keep=0.1 dense-steps=2"],
  "second order: veda keep=0.1 tile-scores=second-order",
];
const PROMPT = "a red circle moving right on a black background";
const CLIPS = {
  large: { size: { width: 512, height: 512 }, frames: 61, steps: 20 },
  small: { size: { width: 64, height: 64 }, frames: 5, steps: 2 },
} satisfies Record<Size, ClipValues>;
/** Timed clips of each setting, after those that compile kernels and warm up. */
const COUNT = 3;

/** What kernels do, by their names, the first that fits; all others are "the rest". */
const KERNEL_GROUPS: Readonly<Record<string, RegExp>> = {
  "attention by a plan": /^attention_.*plan/,
  "dense attention": /^attention/,
  "products": /^(gemm|matmul)/,
  "selection": /^(tile|bucket)_/,
};
const OTHER_KERNELS = "the rest";

/** The time of a setting's clips. */
export interface DemoTime {
  readonly setting: string;
  readonly density: number;
  /** Medians in seconds; `step` is that of all steps of a clip. */
  readonly denoise: number;
  readonly decode: number;
  readonly step: number;
  /** GPU milliseconds of a clip's steps by what kernels do; absent where the adapter has no timestamps. */
  readonly kernels?: Readonly<Record<string, number>>;
}

/** Times whole clips of the demo model from their prompts, one setting after the other. */
export async function timeDemoClips(gpu: Gpu, size: Size, told: (time: DemoTime) => void): Promise<void> {
  const model = embeddedModelDir(), values = CLIPS[size];
  const pipeline = await VideoPipeline.load(model, { gpu, clips: [{ ...values.size, frames: values.frames }] });
  try {
    for (const words of SETTINGS) {
      const { name: setting, values: own } = parseSetting(words, "setting"),
        { options } = await readyMethods(own, model);
      const settings = { ...clipSettings({ prompt: PROMPT, seed: 3, values }, pipeline.defaults), ...options };
      const made: Timed[] = [];
      const clip = async () => made.push(await timeClip(pipeline, settings));
      await clip();
      await warmUp(gpu, clip);
      for (let i = 0; i < COUNT; i++) await clip();
      const counted = made.slice(-COUNT), kernels = await kernelsOf(gpu, () => timeClip(pipeline, settings));
      told({
        ...{ setting, density: made[0]!.density },
        denoise: median(counted.map(({ steps }) => steps.reduce((a, b) => a + b, 0))),
        decode: median(counted.map(({ decode }) => decode)),
        step: median(counted.flatMap(({ steps }) => steps)),
        ...kernels && { kernels },
      });
    }
  } finally {
    pipeline.close();
  }
}

interface Timed {
  readonly density: number;
  /** Seconds of each step. The first waits for what is made once a clip. */
  readonly steps: readonly number[];
  readonly decode: number;
}

async function timeClip(pipeline: VideoPipeline, options: GenerateOptions): Promise<Timed> {
  let report: AttentionReport = { density: 1 }, before = 0;
  const steps: number[] = [];
  await pipeline.generate({
    ...options,
    onAttention: (made) => report = made,
    // A step is reported when the GPU has computed it.
    onProgress: ({ stage, done }) => {
      if (stage !== "denoise") return;
      const now = performance.now();
      if (done > 0) steps.push((now - before) / 1000);
      before = now;
    },
  });
  return { density: report.density, steps, decode: (performance.now() - before) / 1000 };
}

/** The GPU milliseconds of the steps of a clip, by groups of kernels. */
async function kernelsOf(gpu: Gpu, render: () => Promise<unknown>): Promise<Record<string, number> | undefined> {
  if (!gpu.settings.description.features.includes("timestamp-query")) return undefined;
  const profiler = await Profiler.start(gpu);
  try {
    await render();
    const inSteps = (await profiler.take()).filter(({ labels }) => labels.some(({ name }) => /^step \d/.test(name)));
    const groups: Record<string, number> = {};
    for (const { kernel, time } of kernelTimes(inSteps)) {
      const group = Object.keys(KERNEL_GROUPS).find((name) => KERNEL_GROUPS[name]!.test(kernel)) ?? OTHER_KERNELS;
      groups[group] = (groups[group] ?? 0) + time / 1e6;
    }
    return groups;
  } finally {
    profiler.stop();
  }
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!;
}
