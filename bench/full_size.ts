/**
 * A run at full size: writes a checkpoint of the shape of Wan 2.1 T2V or HunyuanVideo with random weights, loads it,
 * denoises and decodes a clip, and prints the time and the memory that each part took.
 *
 *     deno run -A bench/full_size.ts --steps 2 --size 832x480 --frames 33
 *     deno run -A bench/full_size.ts --shape hunyuan --steps 1 --size 1280x720 --frames 33
 *
 * @module
 */
import { clipOptions } from "../tools/program/clip/clip_options.ts";
import { choice, flag, integer, memory, type OptionValues, path } from "../tools/program/options.ts";
import { weightDtypeOption, weightsOption } from "../tools/program/model_options.ts";
import { checkProfile, profileOption, startProfile } from "../tools/program/profile.ts";
import { runAsProgram } from "../tools/program/run_command.ts";
import { quoted, TilereelError } from "../gpu/common/errors.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { type LoadOptions, VideoPipeline } from "../model/pipeline.ts";
import { castText } from "../model/weights/weight_dtype.ts";
import { randn } from "../model/noise.ts";
import type { HostConditioning } from "../model/conditioning.ts";
import type { ClipSize } from "../model/video_size.ts";
import { writeRandomCheckpoint } from "./full_size/checkpoint.ts";
import { assertVaried } from "./random.ts";
import { benchOptions, handOver, type MeasuredOn, onGpu, storedOption } from "./program.ts";
import { type ModelShape, SHAPES } from "./shapes.ts";
import { gib, markdownTable } from "./table.ts";

const options = {
  dir: path({
    value: "DIR",
    help: "New folder that the model is written to.",
    default: "a temporary one",
  }),
  keep: flag({ help: "Do not remove the model." }),
  written: flag({ help: "The model is in the folder of --dir from an earlier run with the same shape and --keep." }),
  shape: choice({ choices: ["1.3b", "14b", "hunyuan"], help: "Shape of the transformer.", default: "1.3b" }),
  layers: integer({
    help: "Blocks of the transformer, of both kinds in proportion where there are two.",
    default: "all",
    min: 1,
  }),
  stored: storedOption("bf16"),
  ...benchOptions,
  profile: profileOption,
  size: clipOptions.size,
  frames: clipOptions.frames,
  steps: clipOptions.steps,
  memory: memory({ value: "SIZE", help: "GPU memory to stay within.", default: "all there is" }),
  weights: weightsOption,
  "weight-dtype": weightDtypeOption,
};

/** The tokens of a prompt of usual length. The rest of the embeddings is zero. */
const PROMPT_TOKENS = 64;

if (import.meta.main) await runAsProgram({ name: "deno run -A bench/full_size.ts", options, run: main });

async function main(values: OptionValues<typeof options>): Promise<void> {
  if (values.profile !== undefined) await checkProfile(values.profile);
  await onGpu(values, async (gpu, on) => {
    const { shape: name = "1.3b", keep = false, written = false, frames = 33, steps = 2 } = values;
    const shape = SHAPES[name], blocks = blocksOf(shape, values.layers ?? shape.config.layers);
    const { width, height } = values.size ?? { width: 832, height: 480 };
    if (written && values.dir === undefined) throw new TilereelError("--written needs --dir, the folder of the model");
    const dir = values.dir === undefined
      ? await Deno.makeTempDir({ prefix: "tilereel-full-size-" })
      : written
      ? values.dir
      : await newFolder(values.dir);
    try {
      const start = performance.now();
      const weightBytes = written ? await weightBytesIn(dir) : await writeRandomCheckpoint(dir, {
        ...values.stored === "f32" && { stored: "F32" },
        family: name === "hunyuan" ? "hunyuan" : "wan",
        transformer: {
          ...shape.json,
          ...blocks.length === 1 ? { num_layers: blocks[0] } : { num_layers: blocks[0], num_single_layers: blocks[1] },
        },
      });
      const writeSeconds = written ? 0 : secondsSince(start);
      if (!written) console.error(`wrote ${(weightBytes / 1e9).toFixed(2)} GB in ${writeSeconds.toFixed(1)} s`);
      using profile = values.profile === undefined ? undefined : await startProfile(gpu, values.profile);
      const clip = `${width}x${height}, ${frames} frames`;
      const run = {
        ...on,
        ...{ shape: name, clip, layers: blocks.reduce((a, b) => a + b), weightBytes, writeSeconds },
        ...await render(gpu, dir, shape, { width, height, frames, steps }, {
          ...values.weights !== undefined && { weights: values.weights },
          ...values["weight-dtype"] !== undefined && { weightDtype: values["weight-dtype"] },
        }),
      };
      const profiled = profile ? `\n\n${await profile.finish()}` : "";
      handOver(values, run, `\n${reportTable(run)}${profiled}`);
    } finally {
      if (!keep) await Deno.remove(dir, { recursive: true });
    }
  });
}

/** So many blocks, of each kind in the proportion of the shape's, at least one. */
function blocksOf({ blocks, config }: ModelShape, layers: number): number[] {
  const counts = blocks.map((count) => Math.max(1, Math.round(count * layers / config.layers)));
  return counts.length === 1 ? counts : [counts[0]!, Math.max(1, layers - counts[0]!)];
}

/** The bytes of the weights that an earlier run wrote. */
async function weightBytesIn(dir: string): Promise<number> {
  let bytes = 0;
  for (const part of ["transformer", "vae"]) {
    for await (const { name } of Deno.readDir(`${dir}/${part}`)) {
      if (name.endsWith(".safetensors")) bytes += (await Deno.stat(`${dir}/${part}/${name}`)).size;
    }
  }
  return bytes;
}

/** Makes a folder. One that exists is refused, because it will be removed with all that is in it. */
async function newFolder(dir: string): Promise<string> {
  try {
    await Deno.mkdir(dir);
    return dir;
  } catch (error) {
    throw new TilereelError(`--dir ${quoted(dir)} cannot be made (${(error as Error).message}); name a new folder`);
  }
}

/** The time and memory of rendering. */
type Rendered = Awaited<ReturnType<typeof render>>;

/** The data of a run: seconds, and bytes of GPU memory. */
export interface FullSizeRun extends MeasuredOn, Rendered {
  readonly shape: string;
  readonly clip: string;
  readonly layers: number;
  readonly weightBytes: number;
  readonly writeSeconds: number;
}

/** Loads the model and renders one clip with the guidance that the model has by default. */
async function render(
  gpu: Gpu,
  dir: string,
  { textTokens, passes }: ModelShape,
  clip: ClipSize & { readonly steps: number },
  options: Pick<LoadOptions, "weights" | "weightDtype">,
) {
  let start = performance.now();
  const pipeline = await VideoPipeline.load(dir, { gpu, ...options, clips: [clip] });
  await gpu.finish();
  const loadSeconds = secondsSince(start), heldAfterLoad = gpu.memory.held;
  // `formats` is a text such as "stored as F32, cast to f16 while loading".
  const { place, why } = pipeline.weights, formats = castText(pipeline.weights);
  console.error(`loaded in ${loadSeconds.toFixed(1)} s; weights: ${place} (${why}), ${formats}`);
  // The first step also compiles the kernels.
  const stepSeconds: number[] = [];
  // The standard deviations of the last latents, and of the samples (0 to 255).
  let latentStd = 0, decodeSeconds = 0;
  const { guidance } = pipeline.defaults, { textDim, pooledDim } = pipeline;
  const embeddings = (seed: number) => randomEmbeddings(seed, { textTokens, textDim, pooledDim });
  const { data } = await pipeline.generate({
    ...clip,
    prompt: "",
    embeddings: { positive: embeddings(1), negative: embeddings(2) },
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
  const sampleStd = assertVaried(data, "the decoded clip"), { held: heldAtEnd, peak } = gpu.memory;
  pipeline.close();
  const memory = { heldAfterLoad, heldAtEnd, peak };
  return { place, formats, guidance, passes, loadSeconds, stepSeconds, decodeSeconds, ...memory, latentStd, sampleStd };
}

/** Of a prompt: zero after its end, or told where it ends to a model that takes it as one vector, too. */
function randomEmbeddings(
  seed: number,
  { textTokens, textDim, pooledDim }: {
    readonly textTokens: number;
    readonly textDim: number;
    readonly pooledDim: number | undefined;
  },
): HostConditioning {
  const data = new Float32Array(textTokens * textDim);
  data.set(randn(PROMPT_TOKENS * textDim, seed));
  return {
    text: { data, shape: [1, textTokens, textDim] },
    ...pooledDim !== undefined && {
      textLength: PROMPT_TOKENS,
      pooled: { data: randn(pooledDim, seed + 10), shape: [1, pooledDim] },
    },
  };
}

function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}

function reportTable(r: FullSizeRun): string {
  const seconds = (s: number) => `${s.toFixed(2)} s`, [first = 0, ...rest] = r.stepSeconds;
  const written = r.writeSeconds > 0 ? `, written in ${seconds(r.writeSeconds)}` : "";
  const weights = `${(r.weightBytes / 1e9).toFixed(2)} GB${written}, ${r.place}, ${r.formats}`;
  const passes = `${r.passes} ${r.passes === 1 ? "pass" : "passes"} a step`;
  return markdownTable([
    ["what", `${r.adapter}, ${r.precision}`],
    ["clip", `${r.clip}, ${r.layers} blocks, guidance ${r.guidance}, ${passes}`],
    ["weights", weights],
    ["load", seconds(r.loadSeconds)],
    ["first step (compiles kernels)", seconds(first)],
    ...rest.length === 0
      ? []
      : [["step (median of the others)", seconds(rest.sort((a, b) => a - b)[rest.length >> 1]!)]],
    ["decode", seconds(r.decodeSeconds)],
    ["GPU memory after load", gib(r.heldAfterLoad)],
    ["GPU memory at its peak", gib(r.peak)],
    ["deviation of latents, of samples", `${r.latentStd.toFixed(3)}, ${r.sampleStd.toFixed(1)}`],
  ]);
}
