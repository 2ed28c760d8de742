/**
 * A run at full size: writes a checkpoint of Wan 2.1 T2V's shape with random weights, loads it, denoises and decodes a
 * clip, and prints the time and the memory that each part took.
 *
 *     deno run -A bench/full_size.ts --steps 2 --size 832x480 --frames 33
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
import type { ClipSize } from "../model/video_size.ts";
import { writeRandomCheckpoint } from "./full_size/checkpoint.ts";
import { assertVaried } from "./random.ts";
import { benchOptions, handOver, type MeasuredOn, onGpu, storedOption } from "./program.ts";
import { SHAPES } from "./shapes.ts";
import { gib, markdownTable } from "./table.ts";

const options = {
  dir: path({
    value: "DIR",
    help: "New folder that the model is written to.",
    default: "a temporary one",
  }),
  keep: flag({ help: "Do not remove the model." }),
  shape: choice({ choices: ["1.3b", "14b"], help: "Shape of the transformer.", default: "1.3b" }),
  layers: integer({ help: "Blocks of the transformer.", default: "all", min: 1 }),
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
    const { shape = "1.3b", keep = false, frames = 33, steps = 2 } = values, { json, config } = SHAPES[shape];
    const { width, height } = values.size ?? { width: 832, height: 480 }, { layers = config.layers } = values;
    const dir = values.dir === undefined
      ? await Deno.makeTempDir({ prefix: "tilereel-full-size-" })
      : await newFolder(values.dir);
    try {
      const start = performance.now();
      const weightBytes = await writeRandomCheckpoint(dir, {
        ...values.stored === "f32" && { stored: "F32" },
        transformer: { ...json, num_layers: layers },
      });
      const writeSeconds = secondsSince(start);
      console.error(`wrote ${(weightBytes / 1e9).toFixed(2)} GB in ${writeSeconds.toFixed(1)} s`);
      using profile = values.profile === undefined ? undefined : await startProfile(gpu, values.profile);
      const clip = `${width}x${height}, ${frames} frames`;
      const run = {
        ...on,
        ...{ shape, clip, layers, weightBytes, writeSeconds },
        ...await render(gpu, dir, { width, height, frames, steps }, {
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

/** Loads the model and renders one clip with guidance. */
async function render(
  gpu: Gpu,
  dir: string,
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
  const { data } = await pipeline.generate({
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
  const sampleStd = assertVaried(data, "the decoded clip"), { held: heldAtEnd, peak } = gpu.memory;
  pipeline.close();
  const memory = { heldAfterLoad, heldAtEnd, peak };
  return { place, formats, loadSeconds, stepSeconds, decodeSeconds, ...memory, latentStd, sampleStd };
}

/** [text tokens, text dim]; zero after the prompt's end. */
function randomEmbeddings(seed: number): Float32Array {
  const embeddings = new Float32Array(512 * 4096);
  embeddings.set(randn(PROMPT_TOKENS * 4096, seed));
  return embeddings;
}

function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}

function reportTable(r: FullSizeRun): string {
  const seconds = (s: number) => `${s.toFixed(2)} s`, [first = 0, ...rest] = r.stepSeconds;
  const weights = `${(r.weightBytes / 1e9).toFixed(2)} GB, written in ${
    seconds(r.writeSeconds)
  }, ${r.place}, ${r.formats}`;
  return markdownTable([
    ["what", `${r.adapter}, ${r.precision}`],
    ["clip", `${r.clip}, ${r.layers} blocks, guidance 5`],
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
