/**
 * A run at full size: writes a checkpoint of Wan 2.1 T2V's shape with random weights, loads it, denoises and decodes a
 * clip, and says how long each part took and what it needed.
 *
 *     deno run -A bench/full_size.ts --steps 2 --size 832x480 --frames 33
 *
 * @module
 */
import { clipOptions } from "../tools/program/clip/clip_options.ts";
import { gpuOptions, openGpuAsAsked, precisionOption } from "../tools/program/gpu_options.ts";
import { choice, flag, integer, memory, type OptionValues, path } from "../tools/program/options.ts";
import { checkProfile, profileOption, startProfile } from "../tools/program/profile.ts";
import { showProgress } from "../tools/program/progress.ts";
import { TilereelError } from "../gpu/common/errors.ts";
import { weightDtypeOption, weightsOption } from "../tools/program/model_options.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { type LoadOptions, VideoPipeline } from "../model/pipeline.ts";
import { castText } from "../model/weights/weight_dtype.ts";
import { randn } from "../model/noise.ts";
import type { WeightsPlace } from "../model/blocks/weights_place.ts";
import { writeRandomCheckpoint } from "./full_size/checkpoint.ts";
import { assertVaried } from "./full_size/varied.ts";
import { handOver, resultOptions } from "./result.ts";
import { runAsProgram } from "../tools/program/run_as_program.ts";
import { markdownTable } from "./table.ts";
import { WAN_SHAPES } from "./wan_shapes.ts";

const GROUP = "Full size";

const options = {
  dir: path({
    group: GROUP,
    value: "DIR",
    help: "New folder that the model is written to.",
    default: "a temporary one",
  }),
  keep: flag({ group: GROUP, help: "Leave the model there." }),
  shape: choice({ group: GROUP, choices: ["1.3b", "14b"], help: "Of the transformer.", default: "1.3b" }),
  layers: integer({ group: GROUP, value: "N", help: "Blocks of the transformer.", default: "all", min: 1 }),
  stored: choice({
    group: GROUP,
    choices: ["bf16", "f32"],
    help: "Format of the transformer's files: Wan-AI's own are f32.",
    default: "bf16",
  }),
  ...gpuOptions(GROUP),
  precision: precisionOption(GROUP),
  profile: profileOption(GROUP),
  size: clipOptions.size,
  frames: clipOptions.frames,
  steps: clipOptions.steps,
  memory: memory({ group: GROUP, value: "SIZE", help: "GPU memory to stay within.", default: "all there is" }),
  weights: weightsOption,
  "weight-dtype": weightDtypeOption,
  ...resultOptions,
};

const TEXT_TOKENS = 512;
/** Tokens of a prompt of usual length; the rest of the embeddings is zero. */
const PROMPT_TOKENS = 64;
const TEXT_DIM = 4096;

/** What a run took. Seconds, and bytes of GPU memory. */
interface Report {
  readonly adapter: string;
  readonly source: string;
  readonly precision: string;
  readonly shape: string;
  readonly clip: string;
  readonly layers: number;
  readonly weightBytes: number;
  /** Where the blocks' weights lay. */
  readonly place: WeightsPlace;
  /** In words: "stored as F32, cast to f16 while loading". */
  readonly formats: string;
  readonly writeSeconds: number;
  readonly loadSeconds: number;
  /** Of each step; the first also compiles the kernels. */
  readonly stepSeconds: readonly number[];
  readonly decodeSeconds: number;
  readonly heldAfterLoad: number;
  readonly heldAtEnd: number;
  readonly peak: number;
  /** Standard deviation of the last latents, and of the samples (0 to 255). */
  readonly latentStd: number;
  readonly sampleStd: number;
}

if (import.meta.main) await runAsProgram({ command: "deno run -A bench/full_size.ts", options, run: main });

async function main(values: OptionValues<typeof options>): Promise<void> {
  const { shape = "1.3b", keep = false } = values;
  const { heads, ffnDim, layers: all } = WAN_SHAPES[shape].config;
  const layers = values.layers ?? all;
  if (values.profile !== undefined) await checkProfile(values.profile);
  const gpu = await openGpuAsAsked(values, showProgress().onProgress);
  const dir = values.dir === undefined
    ? await Deno.makeTempDir({ prefix: "tilereel-full-size-" })
    : await newFolder(values.dir);
  try {
    const start = performance.now();
    const weightBytes = await writeRandomCheckpoint(dir, {
      ...values.stored === "f32" && { stored: "F32" },
      transformer: { num_attention_heads: heads, ffn_dim: ffnDim, num_layers: layers },
    });
    const writeSeconds = secondsSince(start);
    console.error(`wrote ${(weightBytes / 1e9).toFixed(2)} GB in ${writeSeconds.toFixed(1)} s`);
    const { width, height } = values.size ?? { width: 832, height: 480 };
    const { frames = 33, steps = 2 } = values;
    using profile = values.profile === undefined ? undefined : await startProfile(gpu, values.profile);
    const report: Report = {
      adapter: gpu.settings.description.name,
      source: gpu.settings.description.source,
      precision: gpu.settings.precision,
      shape,
      clip: `${width}x${height}, ${frames} frames`,
      layers,
      weightBytes,
      writeSeconds,
      ...await render(gpu, dir, { width, height, frames, steps }, {
        ...values.weights !== undefined && { weights: values.weights },
        ...values["weight-dtype"] !== undefined && { weightDtype: values["weight-dtype"] },
      }),
    };
    const profiled = profile ? `\n\n${await profile.finish()}` : "";
    handOver(values, report, `\n${reportTable(report)}${profiled}`);
  } finally {
    gpu.close();
    if (!keep) await Deno.remove(dir, { recursive: true });
  }
}

/** Makes a folder. One that exists is left alone: it will be removed with all that is in it. */
async function newFolder(dir: string): Promise<string> {
  try {
    await Deno.mkdir(dir);
    return dir;
  } catch (error) {
    throw new TilereelError(`--dir ${dir} cannot be made: ${(error as Error).message}; name a new folder`);
  }
}

type Rendered = Omit<
  Report,
  "adapter" | "source" | "precision" | "shape" | "clip" | "layers" | "weightBytes" | "writeSeconds"
>;

/** Loads the model and renders one clip with guidance. */
async function render(
  gpu: Gpu,
  dir: string,
  clip: { width: number; height: number; frames: number; steps: number },
  weights: Pick<LoadOptions, "weights" | "weightDtype">,
): Promise<Rendered> {
  let start = performance.now();
  const pipeline = await VideoPipeline.load(dir, { gpu, ...weights, clips: [clip] });
  await gpu.finish();
  const loadSeconds = secondsSince(start), heldAfterLoad = gpu.memory.held;
  const { place, why } = pipeline.weights, formats = castText(pipeline.weights);
  console.error(`loaded in ${loadSeconds.toFixed(1)} s; weights: ${place} (${why}), ${formats}`);
  const stepSeconds: number[] = [];
  let latentStd = 0, decodeSeconds = 0;
  const video = await pipeline.generate({
    ...clip,
    prompt: "",
    guidance: 5,
    embeddings: { positive: randomEmbeddings(1), negative: randomEmbeddings(2) },
    onStep: async (latents) => {
      await gpu.finish();
      stepSeconds.push(secondsSince(start));
      latentStd = assertVaried(await gpu.read(latents), `the latents after step ${stepSeconds.length}`);
      console.error(`step ${stepSeconds.length}: ${stepSeconds.at(-1)!.toFixed(2)} s`);
      start = performance.now();
    },
    onProgress: ({ stage, done, total }) => {
      if (done === 0) start = performance.now();
      if (stage === "decode" && done === total) decodeSeconds = secondsSince(start);
    },
  });
  const sampleStd = assertVaried(video.data, "the decoded clip");
  const { held, peak } = gpu.memory;
  pipeline.close();
  return {
    place,
    formats,
    loadSeconds,
    stepSeconds,
    decodeSeconds,
    heldAfterLoad,
    heldAtEnd: held,
    peak,
    latentStd,
    sampleStd,
  };
}

/** [text tokens, text dim], zero past the prompt's end. */
function randomEmbeddings(seed: number): Float32Array {
  const embeddings = new Float32Array(TEXT_TOKENS * TEXT_DIM);
  embeddings.set(randn(PROMPT_TOKENS * TEXT_DIM, seed));
  return embeddings;
}

function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}

function reportTable(r: Report): string {
  const seconds = (s: number) => `${s.toFixed(2)} s`, gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  const [first, ...rest] = r.stepSeconds as [number, ...number[]];
  return markdownTable([
    ["what", `${r.adapter}, ${r.precision}`],
    ["clip", `${r.clip}, ${r.layers} blocks, guidance 5`],
    [
      "weights",
      `${(r.weightBytes / 1e9).toFixed(2)} GB, written in ${seconds(r.writeSeconds)}, ${r.place}, ${r.formats}`,
    ],
    ["load", seconds(r.loadSeconds)],
    ["first step (compiles kernels)", seconds(first)],
    ...(rest.length > 0
      ? [["step (median of the others)", seconds(rest.toSorted((a, b) => a - b)[rest.length >> 1]!)]]
      : []),
    ["decode", seconds(r.decodeSeconds)],
    ["GPU memory after load", gib(r.heldAfterLoad)],
    ["GPU memory at its peak", gib(r.peak)],
    ["deviation of latents, of samples", `${r.latentStd.toFixed(3)}, ${r.sampleStd.toFixed(1)}`],
  ]);
}
