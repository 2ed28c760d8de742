/**
 * `deno task bench:headline`: the seconds of whole clips, from given text embeddings to pictures, with full attention
 * and with what makes them faster: sparse attention, a step cache, models of few steps, and all of these together.
 *
 * A forward pass is computed from one block of each kind × their number and the time outside the blocks, except where
 * the table says that it was run whole. Results are saved after each row, the most important first.
 *
 * @module
 */
import { TilereelError } from "../gpu/common/errors.ts";
import { formatBytes } from "../gpu/common/format_bytes.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { attention } from "../gpu/ops/attention.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { product } from "../model/attention/grid.ts";
import { fullAttention } from "../model/attention/full.ts";
import type { AttentionMethod } from "../model/attention/method.ts";
import { pyramidAttentionBroadcast } from "../model/cache/pab.ts";
import { randn } from "../model/noise.ts";
import { type GenerateOptions, VideoPipeline } from "../model/pipeline.ts";
import { createScheduler, type Scheduler } from "../model/schedulers/scheduler.ts";
import { DEFAULT_SPARSITY, vsaAttention } from "../model/vsa/methods.ts";
import { integer, memory, notation, number, type OptionValues } from "../tools/program/options.ts";
import { runAsProgram } from "../tools/program/run_command.ts";
import { cachedSteps } from "./headline/cached_steps.ts";
import { timeDecode, WARM_UP } from "./headline/decoding.ts";
import {
  type HeadlineModel,
  headlineModels,
  MODEL_NAMES,
  modelOf,
  partOfFrames,
  partOfHeads,
  partsOf,
} from "./headline/models.ts";
import { type PartTime, PassTimes } from "./headline/pass_times.ts";
import { measure, warmUp } from "./measure.ts";
import { normalTensor } from "./random.ts";
import { benchOptions, handOver, type MeasuredOn, onGpu, saveResult, sizeOption } from "./program.ts";
import type { ModelShape } from "./shapes.ts";
import { full, type TimedMethod, veda, vorta } from "./steps/methods.ts";
import { openTransformer } from "./steps/transformer.ts";
import { percent, secondsText, tableOf } from "./table.ts";

type ModelName = typeof MODEL_NAMES[number];

/** With this share of full heads, VORTA is about 1.76 times as fast as full attention, as its authors report. */
const FULL_HEADS = 0.3;
const STEPS = 50;
/** The share of tiles that Veda keeps of Waver's clip, as in its paper. */
const WAVER_KEEP = 0.05;

const options = {
  ...benchOptions,
  size: sizeOption,
  memory: memory({ value: "SIZE", help: "GPU memory to stay within.", default: "8GB are planned with" }),
  models: notation<readonly ModelName[]>(
    { value: "X,Y", help: "What to measure, in this order.", default: MODEL_NAMES.join() },
    `some of ${MODEL_NAMES.join(", ")}`,
    (text) => {
      const names = text.split(",") as ModelName[];
      return names.every((name) => MODEL_NAMES.includes(name)) ? names : undefined;
    },
  ),
  "full-heads": number({
    help: "The share of VORTA's heads on full attention. The others are half on sliding tiles, half on core-sets.",
    default: FULL_HEADS,
    min: 0,
    max: 1,
  }),
  samples: integer({ help: "How often each part is timed at most, after it was warmed up.", default: 3, min: 1 }),
  "longest-decode": integer({
    value: "SECONDS",
    help: "Decoding that takes longer is stopped, and its time is scaled up.",
    default: 15,
    min: 0,
  }),
};

type Values = OptionValues<typeof options>;

/** The time of a whole clip. */
export interface ClipRow {
  readonly model: ModelName;
  /** What is done, in words. */
  readonly clip: string;
  /** The kind of self-attention, with its settings. */
  readonly attention: string;
  readonly steps: number;
  /** The forward passes of all steps. */
  readonly passes: number;
  /** With a step cache: the number of steps, by what they do with attention's outputs. */
  readonly cached?: Readonly<Record<string, number>>;
  /** Seconds of all steps. */
  readonly denoise: number;
  /** Seconds, if decoding was timed. */
  readonly decode?: number;
  /** The share of the clip that was decoded; the time is scaled up from it. */
  readonly decoded?: number;
  /** Whether it was rendered as a whole; otherwise its steps are computed from a forward pass or from its parts. */
  readonly timed: "blocks" | "a forward pass" | "the clip";
}

/** The time of Waver's layers with a kind of attention. */
export interface LayerRow {
  readonly attention: string;
  /** Milliseconds of a layer: the mean over all, of both kinds. */
  readonly layerMs: number;
  /** Without its self-attention. */
  readonly restMs: number;
  /** Milliseconds of a forward pass. */
  readonly passMs: number;
}

/** The data of a run. */
export interface HeadlineRun extends MeasuredOn {
  readonly size: string;
  readonly rows: ClipRow[];
  readonly layers: LayerRow[];
  /** The clip whose layers these are. */
  layersOf?: string;
  /** What the rows are computed from. */
  readonly parts: (PartTime & { readonly model: ModelName })[];
  /** What could not be measured, and why. */
  readonly failures: { readonly what: string; readonly why: string }[];
  /** The most bytes of GPU memory up to the end of each model. */
  readonly peak: Partial<Record<ModelName, number>>;
}

if (import.meta.main) await runAsProgram({ name: "deno task bench:headline", options, run: bench });

function bench(values: Values): Promise<void> {
  return onGpu(values, async (gpu, on) => {
    const run = await measureHeadline(gpu, on, values);
    handOver(values, run, `\n${headlineTables(run)}`);
    if (run.failures.length === 0) return;
    throw new TilereelError(`${run.failures.map(({ what }) => what).join(" and ")} could not be measured`);
  });
}

/** Measures all rows, and saves them one by one. What fails is noted. */
export async function measureHeadline(gpu: Gpu, on: MeasuredOn, values: Values): Promise<HeadlineRun> {
  const size = values.size ?? (gpu.settings.description.software ? "small" : "large");
  const run: HeadlineRun = { ...on, size, rows: [], layers: [], parts: [], failures: [], peak: {} };
  const { clips, fastWan, waver } = headlineModels(size), save = () => saveResult(values, run);
  const attempt = async (what: string, work: () => Promise<void>) => {
    try {
      await work();
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      run.failures.push({ what, why });
      console.error(`${what}: ${why}`);
    }
    gpu.trim();
    save();
  };
  for (const name of values.models ?? MODEL_NAMES) {
    const context: Context = { gpu, values, name, run, save, attempt };
    if (name === "waver") await attempt("Waver's layers", () => timeLayers(context, waver));
    else if (name === "1.3b") await timeWhole(context, clips[name], fastWan);
    else await timeByBlocks(context, clips[name]);
    run.peak[name] = gpu.memory.peak;
    save();
  }
  return run;
}

/** What the measurement of a model needs. */
interface Context {
  readonly gpu: Gpu;
  readonly values: Values;
  readonly name: ModelName;
  readonly run: HeadlineRun;
  readonly save: () => void;
  /** Does work whose failure does not end the run, and saves the results. */
  readonly attempt: (what: string, work: () => Promise<void>) => Promise<void>;
}

function passTimes(
  { gpu, values: { samples = 3 }, name, run, save }: Context,
  transformer: ConstructorParameters<typeof PassTimes>[1],
  blocks: readonly number[],
): PassTimes {
  return new PassTimes(gpu, transformer, blocks, samples, (time) => {
    run.parts.push({ model: name, ...time });
    console.error(`${name}, ${time.part}: ${time.ms.toFixed(2)} ms`);
    save();
  });
}

function addRow({ run, name, save }: Context, row: Omit<ClipRow, "model">): void {
  run.rows.push({ model: name, ...row });
  console.error(`${name}, ${row.clip}: ${secondsText(secondsOf(row))}`);
  save();
}

/** Clips of HunyuanVideo or Wan 14B: with every combination, from the times of blocks. Decoding is timed last. */
async function timeByBlocks(context: Context, model: HeadlineModel): Promise<void> {
  const { gpu, values, attempt } = context, { shape, few, flowShift } = model;
  const { scheduler, defaults, passes, shape: { crossAttention }, family } = modelOf(shape, model);
  const pab = pyramidAttentionBroadcast();
  await attempt(`the steps of ${shape.clip}`, async () => {
    using transformer = await openTransformer(gpu, shape, shape.blocks.map(() => 1));
    using dense = full(gpu, shape), routed = vorta(gpu, shape, values["full-heads"] ?? FULL_HEADS, 1);
    const times = passTimes(context, transformer, shape.blocks);
    const fifty = {
      scheduler: createScheduler(scheduler, { steps: STEPS, flowShift }),
      count: passes(defaults.guidance).length,
    };
    const fewer = { scheduler: presetScheduler(scheduler, few), count: passes(few.guidance).length };
    const row = async ({ scheduler, count }: typeof fifty, method: TimedMethod, cached: boolean) => {
      const { timesteps, sigmas } = scheduler, steps = timesteps.length;
      const clip = [`${steps} steps`, ...method === routed ? ["VORTA"] : [], ...cached ? ["PAB"] : []].join(", ");
      const about = { clip, attention: method.name, steps, passes: steps * count, timed: "blocks" } as const;
      if (!cached) return addRow(context, { ...about, denoise: about.passes * await times.pass(method) / 1000 });
      using split = await cachedSteps(pab, {
        ...{ gpu, model: { family, shape: shape.config }, passes: ["prompt"] },
        ...{ timesteps: [...timesteps], sigmas: [...sigmas], gridTokens: product(shape.grid) },
      }, crossAttention ? ["self", "cross"] : ["self"]);
      let denoise = 0;
      for (const kind of split.kinds) {
        denoise += kind.steps.length * count * await times.pass(method, kind) / 1000;
      }
      const uses = Object.fromEntries(split.kinds.map(({ name, steps }) => [name, steps.length]));
      addRow(context, { ...about, cached: uses, denoise });
    };
    for (const schedule of [fifty, fewer]) {
      for (const cached of [false, true]) {
        for (const method of [dense, routed]) {
          // Few steps with a cache alone are no row of the headline.
          if (schedule === fifty || !cached || method === routed) await row(schedule, method, cached);
        }
      }
    }
  });
  await attempt(`decoding ${shape.clip}`, () => timeDecoding(context, model));
}

function presetScheduler(
  config: Parameters<typeof createScheduler>[0],
  { sigmas, scheduler: kind, flowShift }: HeadlineModel["few"],
): Scheduler {
  return createScheduler(config, { steps: sigmas.length, sigmas, kind, flowShift });
}

/** Times decoding, and adds it to the rows of the model. */
async function timeDecoding(context: Context, { shape, ...rest }: HeadlineModel): Promise<void> {
  const { gpu, values: { "longest-decode": longest = 15 }, name, run, save } = context;
  const model = modelOf(shape, rest);
  using vae = await model.loadVae(gpu, "decoder");
  const { seconds, share } = await timeDecode(gpu, vae, model.latentShape(shape.size), longest);
  for (const [i, row] of run.rows.entries()) {
    if (row.model === name && row.decode === undefined) run.rows[i] = { ...row, decode: seconds, decoded: share };
  }
  console.error(`${name}, decoding: ${secondsText(seconds)} (${percent(share)} of it timed)`);
  save();
}

/** Clips of Wan 1.3B: whole forward passes, and whole clips of FastWan. */
async function timeWhole(context: Context, model: HeadlineModel, fastWan: ModelShape): Promise<void> {
  const { gpu, values: { samples = 3 }, attempt } = context, { shape, few } = model;
  await attempt(`the steps of ${shape.clip}`, async () => {
    using transformer = await openTransformer(gpu, shape, shape.blocks);
    const often = { least: Math.min(2, samples), most: samples };
    const { ms } = await measure(gpu, () => transformer.forward(undefined), often), passes = STEPS * shape.passes;
    const about = { clip: `${STEPS} steps`, attention: "full", steps: STEPS, passes };
    addRow(context, { ...about, denoise: passes * ms / 1000, timed: "a forward pass" });
  });
  await attempt(`decoding ${shape.clip}`, () => timeDecoding(context, model));
  const steps = few.sigmas.length;
  const { sparsity = DEFAULT_SPARSITY } = fastWan,
    kinds = [
      {
        clip: `${steps} steps, VSA`,
        attention: `vsa, sparsity ${sparsity}`,
        shape: fastWan,
        method: vsaAttention({ sparsity }),
      },
      { clip: `${steps} steps`, attention: "full", shape, method: fullAttention },
    ];
  for (const { clip, attention, shape, method } of kinds) {
    await attempt(`${clip}, of ${shape.clip}`, async () => {
      const times = await renderClip(context.gpu, { ...model, shape }, method);
      addRow(context, { clip, attention, steps, passes: steps, timed: "the clip", ...times, decoded: 1 });
    });
  }
}

/** The seconds of rendering a clip in few steps with the pipeline, after a shorter one has compiled the kernels. */
export async function renderClip(
  gpu: Gpu,
  model: HeadlineModel,
  attention: AttentionMethod,
): Promise<{ denoise: number; decode: number }> {
  const { shape, few: { sigmas, scheduler, flowShift, guidance } } = model;
  const clip = { ...shape.size, guidance }, opened = modelOf(shape, model);
  const text = new Float32Array(shape.textTokens * opened.textDim);
  text.set(randn(Math.min(64, shape.textTokens) * opened.textDim, 1));
  const settings: GenerateOptions = {
    ...{ ...clip, prompt: "", embeddings: { positive: text }, scheduler, flowShift, attention },
  };
  const pipeline = await VideoPipeline.of(opened, { gpu, weights: "resident", clips: [clip] });
  try {
    const short = async () => {
      const enough = new AbortController();
      await pipeline.generate({
        ...{ ...settings, sigmas: [1], signal: enough.signal },
        onProgress: ({ stage, done }) => {
          if (stage === "decode" && done >= WARM_UP) enough.abort();
        },
      }).catch((error) => {
        if (!enough.signal.aborted) throw error;
      });
    };
    await short();
    await warmUp(gpu, short);
    const start = performance.now();
    let denoised = start;
    await pipeline.generate({
      ...{ ...settings, sigmas: [...sigmas] },
      onProgress: ({ stage, done }) => {
        if (stage === "decode" && done === 0) denoised = performance.now();
      },
    });
    return { denoise: (denoised - start) / 1000, decode: (performance.now() - denoised) / 1000 };
  } finally {
    pipeline.close();
  }
}

/**
 * Waver's layers with full attention and with Veda. Where a tensor of all tokens cannot be bound, attention is timed with
 * one part of the heads, and the rest with one part of the frames.
 */
async function timeLayers(context: Context, shape: ModelShape): Promise<void> {
  const { gpu, run, save } = context, count = shape.blocks.reduce((a, b) => a + b);
  const parts = partsOf(shape, gpu.maxTensorBytes), part = partOfFrames(shape, parts);
  run.layersOf = shape.clip + (parts === 1 ? "" : `, in ${parts} parts`);
  using transformer = await openTransformer(gpu, part, part.blocks.map(() => 1));
  const times = passTimes(context, transformer, part.blocks);
  const restMs = parts * await times.inBlocks((kind) => times.rest(kind)) / count;
  for (const make of [full, (gpu: Gpu, shape: ModelShape) => veda(gpu, shape, WAVER_KEEP)]) {
    using method = make(gpu, partOfHeads(shape, parts));
    const layerMs = parts === 1
      ? await times.inBlocks((kind) => times.block(kind, method)) / count
      : restMs + parts * await attentionMs(context, partOfHeads(shape, parts), method);
    const passMs = parts * await times.outer() + count * layerMs;
    run.layers.push({ attention: method.name, layerMs, restMs, passMs });
    save();
  }
}
/** The milliseconds of self-attention alone, with random queries, keys and values. */
async function attentionMs(
  { gpu, values: { samples = 3 }, name, run }: Context,
  { config: { dim, heads }, grid, kept, blocks }: ModelShape,
  method: TimedMethod,
): Promise<number> {
  const shape = [1, product(grid) + kept, dim];
  const [q, k, v] = [0, 1, 2].map((which) => normalTensor(gpu, shape, 1, "f32", which)) as [Tensor, Tensor, Tensor];
  try {
    const work = () => gpu.scope(() => void (method.attend?.(q, k, v, 0) ?? attention(gpu, q, k, v, { heads })));
    const { ms, spread } = await measure(gpu, work, { least: Math.min(2, samples), most: samples });
    const times = blocks.reduce((a, b) => a + b);
    run.parts.push({ model: name, part: `attention of ${heads} heads, ${method.name}`, ms, spread, times });
    return ms;
  } finally {
    for (const tensor of [q, k, v]) gpu.release(tensor);
  }
}

/** The seconds of a clip, without decoding if that was not timed. */
export function secondsOf({ denoise, decode = 0 }: Pick<ClipRow, "denoise" | "decode">): number {
  return denoise + decode;
}

/** The tables of a run, which may have been stopped before its end. */
export function headlineTables(
  { adapter, source, precision, rows, layers, layersOf, failures, peak }: HeadlineRun,
): string {
  const seconds = (time: number) => time.toFixed(time < 10 ? 2 : 1);
  const decoding = ({ decode, decoded = 1 }: ClipRow) =>
    decode === undefined ? "left out" : `${seconds(decode)}${decoded < 1 ? ` (${percent(decoded, 0)} timed)` : ""}`;
  const lines = [`${adapter} (${source}, ${precision})`];
  if (rows.length > 0) {
    const first = (row: ClipRow) => rows.find(({ model }) => model === row.model)!;
    lines.push(tableOf(rows, {
      "model": (row) => row.model,
      "clip": (row) => row.clip,
      "passes": (row) => String(row.passes),
      "steps, s": (row) => seconds(row.denoise),
      "decoding, s": decoding,
      "all, s": (row) => seconds(secondsOf(row)),
      "ratio": (row) => (secondsOf(first(row)) / secondsOf(row)).toFixed(2),
      "of the steps": (row) => (first(row).denoise / row.denoise).toFixed(2),
      "timed": ({ timed }) => timed === "blocks" ? "one block of each kind × their number" : timed,
    }));
  }
  for (const [model, ofModel] of Map.groupBy(rows, ({ model }) => model)) {
    const kinds = [...new Set(ofModel.map(({ attention }) => attention))];
    lines.push(`Self-attention of ${model}: ${kinds.join("; ")}.`);
    const cached = new Map(ofModel.flatMap(({ steps, cached }) => cached ? [[steps, cached] as const] : []));
    for (const [steps, uses] of cached) {
      const counts = Object.entries(uses).map(([what, count]) => `${count} × ${what}`);
      lines.push(`Of its ${steps} steps with PAB: ${counts.join("; ")}.`);
    }
  }
  if (layers.length > 0) {
    lines.push(`${layersOf}:`);
    lines.push(tableOf(layers, {
      "attention": (row) => row.attention,
      "layer, ms": (row) => row.layerMs.toFixed(1),
      "attention's share": (row) => percent(Math.max(0, 1 - row.restMs / row.layerMs)),
      "forward pass": (row) => secondsText(row.passMs / 1000),
      "ratio": (row) => (layers[0]!.passMs / row.passMs).toFixed(2),
    }));
  }
  const peaks = Object.entries(peak).map(([model, bytes]) => `${formatBytes(bytes)} after ${model}`);
  if (peaks.length > 0) lines.push(`GPU memory at its peak: ${peaks.join(", ")}.`);
  for (const { what, why } of failures) lines.push(`Not measured: ${what} (${why}).`);
  return lines.join("\n\n");
}
