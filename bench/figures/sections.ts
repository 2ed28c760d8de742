/**
 * What `bench/figures.ts` measures, in order of importance. Each section adds figures by names that the tables of
 * docs/performance.md look up.
 *
 * @module
 */
import { Gpu } from "../../gpu/gpu.ts";
import { attention } from "../../gpu/ops/attention.ts";
import { castToInt8 } from "../../gpu/ops/cast.ts";
import { linear } from "../../gpu/ops/linear.ts";
import { FAMILIES } from "../../gpu/tuning/families.ts";
import { tuneKernels } from "../../gpu/tuning/tune.ts";
import { product } from "../../model/attention/grid.ts";
import { vsaAttention } from "../../model/vsa/methods.ts";
import { measureHeadline, renderClip, secondsOf } from "../headline.ts";
import { headlineModels } from "../headline/models.ts";
import { operands } from "../cases.ts";
import { measure } from "../measure.ts";
import type { Size } from "../program.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { normalTensor } from "../random.ts";
import { type ModelShape, SHAPES, wan } from "../shapes.ts";
import { full, type TimedMethod, veda, vorta } from "../steps/methods.ts";
import { noAttention, openTransformer } from "../steps/transformer.ts";
import { timeDemoClips } from "./demo_clips.ts";

/** One measured number. */
export interface Figure {
  /** What it is, such as "step/1.3b/veda 0.1". */
  readonly id: string;
  readonly value: number;
  /** "TFLOP/s", "s", "ms", "bytes" or "" for a ratio. */
  readonly unit: string;
  /** As `info` names it: "f32", "f16" or "int8". */
  readonly precision: string;
  /** (slowest − fastest) / median. */
  readonly spread?: number;
  /** The share of the pairs of full attention that are computed. */
  readonly density?: number;
  readonly tokens?: number;
  /** What should stand beside it. */
  readonly note?: string;
}

/** The data of a run. */
export interface FiguresRun {
  readonly adapter: string;
  readonly source: string;
  /** When it was measured, as an ISO date. */
  readonly date: string;
  readonly size: Size;
  readonly features: readonly string[];
  readonly figures: Figure[];
  readonly failures: { readonly what: string; readonly why: string }[];
  /** The time that each section took. */
  readonly seconds: Record<string, number>;
}

/** What a section is given. */
interface Context {
  readonly gpu: Gpu;
  readonly size: Size;
  readonly add: (figure: Omit<Figure, "precision">) => void;
}

/** A group of figures that are measured together. */
interface Section {
  /** Whether it is measured in int8, too. */
  readonly precisions: "auto" | "both";
  readonly measure: (context: Context) => Promise<void>;
}

/** How often work is timed, beside the warm-up. */
const FEW = { least: 1, most: 3 };
const HEADS = 12, HEAD_DIM = 128;
/** The share of full heads of VORTA that the goals are for, and the layers over which it is spread. */
const FULL_HEADS = 0.3, PERIOD = 5;

const dim = HEADS * HEAD_DIM;
const attentionFlops = (tokens: number, density = 1) => density * 4 * dim * tokens ** 2;

/** The token grids over which attention is timed, from 7,800 to 244,800 tokens, as in tools/gpu_machine/torch_baseline.py. */
const CLIPS = [
  { width: 832, height: 480, frames: 17 },
  { width: 832, height: 480, frames: 41 },
  { width: 832, height: 480, frames: 81 },
  { width: 1280, height: 720, frames: 81 },
  { width: 1280, height: 720, frames: 129 },
  { width: 1280, height: 720, frames: 269 },
];
const SMALL_CLIPS = [{ width: 128, height: 128, frames: 5 }, { width: 256, height: 128, frames: 13 }];
/** The clips at which both efficiencies are measured. */
const [AT_480P, AT_720P] = [2, 3];
/** Dense attention that would take longer is left out, in milliseconds. */
const LONGEST = 4000;

/** The sections by name, in the order in which they are measured. */
export const SECTIONS = {
  first: { precisions: "both", measure: first },
  gemm: { precisions: "both", measure: gemm },
  sparse: { precisions: "both", measure: (context) => overTokens(context, [AT_480P, AT_720P]) },
  step: { precisions: "both", measure: (context) => steps(context, "1.3b", [0.1, 0.2, 0.05]) },
  clip: { precisions: "both", measure: clip },
  tune: { precisions: "auto", measure: tune },
  step14: { precisions: "both", measure: (context) => steps(context, "14b", [0.1]) },
  waver: { precisions: "both", measure: waver },
  tokens: { precisions: "both", measure: (context) => overTokens(context, [0, 1, 4, 5]) },
  hunyuan: { precisions: "auto", measure: (context) => clips(context, "hunyuan") },
  clips14: { precisions: "auto", measure: (context) => clips(context, "14b") },
  demo: { precisions: "auto", measure: demo },
} as const satisfies Record<string, Section>;

export type SectionName = keyof typeof SECTIONS;

/**
 * What a first clip waits for: the kernels of a block of Wan 1.3B, compiled as a clip does it. It counts only what was not
 * compiled before in this process, so it comes first.
 */
async function first({ gpu, size, add }: Context): Promise<void> {
  const shape = SHAPES[size === "small" ? "small" : "1.3b"];
  using transformer = await openTransformer(gpu, shape, shape.blocks.map(() => 1));
  const block = () => transformer.layers(1, undefined);
  await gpu.finish();
  const start = performance.now();
  if (gpu.compilesAhead) await gpu.compileAhead([block]);
  else block();
  add({
    id: "first use/1.3b",
    value: (performance.now() - start) / 1000,
    unit: "s",
    note: "without attention by a plan",
  });
}

/** The products of the feed-forward of Wan 1.3B at 480p: rows, columns, and what is added up. */
async function gemm({ gpu, size, add }: Context): Promise<void> {
  const { config: { dim, ffnDim }, grid } = SHAPES[size === "small" ? "small" : "1.3b"], m = product(grid);
  for (const [n, k] of [[dim, ffnDim], [ffnDim, dim]] as const) {
    await gpu.waitingScope(async () => {
      const x = normalTensor(gpu, [m, k]), w = normalTensor(gpu, [n, k], 1 / Math.sqrt(k), "bf16");
      const scale = gpu.tensor([n]), w8 = gpu.tensor([n, k], "i8");
      castToInt8(gpu, w, w8, scale);
      const work = gpu.int8 ? () => linear(gpu, x, w8, { scale }) : () => linear(gpu, x, w);
      const { ms, spread } = await measure(gpu, () => gpu.release(work()), { least: 3 });
      const which = n === dim ? "narrow" : "wide";
      add({ id: `gemm/${which}`, value: 2 * m * n * k / ms / 1e9, unit: "TFLOP/s", spread, note: `${m}×${n}×${k}` });
    });
  }
}

/** Attention of 12 heads of 128 over clips: dense, and Veda at keep 0.1 with all that it needs. */
async function overTokens({ gpu, size, add }: Context, which: readonly number[]): Promise<void> {
  const all = size === "small" ? SMALL_CLIPS : CLIPS;
  let rate = Infinity;
  for (const at of which) {
    const clip = all[Math.min(at, all.length - 1)]!, shape = attentionOf(clip), tokens = product(shape.grid);
    await gpu.waitingScope(async () => {
      const qkv = operands(gpu, dim, tokens);
      const time = (work: () => Tensor) => measure(gpu, () => gpu.release(work()), FEW);
      let dense: number | undefined;
      if (attentionFlops(tokens) / rate < LONGEST) {
        const { ms, spread } = await time(() => attention(gpu, ...qkv, { heads: HEADS }));
        rate = attentionFlops(tokens) / ms;
        dense = ms;
        add({ id: `attention/${tokens}/dense`, value: ms, unit: "ms", spread, density: 1, tokens });
        add({ id: `attention/${tokens}/dense rate`, value: rate / 1e9, unit: "TFLOP/s", spread });
      }
      for (const keep of tokens > 2e5 ? [0.1, 0.05] : [0.1]) {
        using method = veda(gpu, shape, keep);
        const { density } = method, { ms, spread } = await time(() => method.attend!(...qkv, 0));
        const id = `attention/${tokens}/veda ${keep}`, rate = attentionFlops(tokens, density) / ms / 1e9;
        add({ id, value: ms, unit: "ms", spread, density, tokens });
        add({ id: `${id} rate`, value: rate, unit: "TFLOP/s", spread });
        if (dense !== undefined) add({ id: `${id} efficiency`, value: dense * density / ms, unit: "", spread });
      }
    });
    gpu.trim();
  }
}

/** A model of which attention alone is used. */
function attentionOf(clip: ModelShape["size"]): ModelShape {
  return wan("attention", clip, { num_attention_heads: HEADS, ffn_dim: 8960, num_layers: 1 });
}

/** A step of a model from the time of a block × layers: with full attention, with VORTA, and with Veda. */
async function steps({ gpu, size, add }: Context, name: "1.3b" | "14b", keeps: readonly number[]): Promise<void> {
  const shape = SHAPES[size === "small" ? "small" : name], { config: { layers }, passes } = shape;
  const start = performance.now();
  using transformer = await openTransformer(gpu, shape, shape.blocks.map(() => 1));
  await gpu.finish();
  add({ id: `load a block/${name}`, value: (performance.now() - start) / 1000, unit: "s" });
  const { ms: outer } = await measure(gpu, () => transformer.outer(), FEW);
  const time = async (what: string, method: Pick<TimedMethod, "period" | "attend"> & { density?: number }) => {
    const { ms, spread } = await measure(gpu, () => transformer.layers(method.period, method.attend), FEW);
    const value = passes * (layers * ms / method.period + outer) / 1000, { density } = method;
    add({ id: `step/${name}/${what}`, value, unit: "s", spread, ...density !== undefined && { density } });
  };
  for (const keep of keeps.slice(0, 1)) {
    using method = veda(gpu, shape, keep);
    await time(`veda ${keep}`, method);
  }
  using dense = full(gpu, shape);
  await time("full", dense);
  using routed = vorta(gpu, shape, FULL_HEADS, PERIOD);
  await time("vorta 0.3", routed);
  await time("no attention", { period: 1, attend: noAttention });
  for (const keep of keeps.slice(1)) {
    using method = veda(gpu, shape, keep);
    await time(`veda ${keep}`, method);
  }
}

/** A whole clip of FastWan 1.3B: three steps with video sparse attention, and decoding. */
async function clip({ gpu, size, add }: Context): Promise<void> {
  const { clips, fastWan } = headlineModels(size), before = gpu.memory.peak;
  const attention = vsaAttention({ sparsity: fastWan.sparsity! });
  const { denoise, decode } = await renderClip(gpu, { ...clips["1.3b"], shape: fastWan }, attention);
  add({ id: "clip/fastwan", value: denoise + decode, unit: "s", note: "3 steps, VSA at 0.8" });
  add({ id: "decode/480p", value: decode, unit: "s" });
  if (gpu.memory.peak > before) add({ id: "memory/fastwan", value: gpu.memory.peak, unit: "bytes" });
}

/** The trial of `tilereel tune`, which remembers nothing, and what it chose beside the shipped defaults. */
async function tune({ gpu: { device, settings }, add }: Context): Promise<void> {
  const gpu = new Gpu(device, { ...settings, tuningStore: undefined });
  const shipped = new Map(FAMILIES.map((family) => [family.name, gpu.kernels.reasonFor(family).variant]));
  const start = performance.now(), found = await tuneKernels(gpu, { again: true });
  if (!found) return;
  add({ id: "tune", value: (performance.now() - start) / 1000, unit: "s" });
  for (const [family, { variant, ms }] of Object.entries(found.choices)) {
    const usual = shipped.get(family)!, others = Object.keys(ms).length;
    const note = `${variant}, of ${others}; shipped default ${usual}: ${ms[usual]?.toFixed(3) ?? "?"} ms`;
    add({ id: `tune/${family}`, value: ms[variant]!, unit: "ms", note });
  }
  gpu.trim();
}

/** A layer of Waver's shape, with full attention and with Veda at keep 0.05. */
async function waver({ gpu, size, add }: Context): Promise<void> {
  const run = await headlineOf(gpu, size, ["waver"]);
  for (const [i, { layerMs, restMs, passMs }] of run.layers.entries()) {
    const which = i === 0 ? "full" : "veda 0.05", note = run.layersOf!;
    add({ id: `waver/${which}`, value: layerMs, unit: "ms", note });
    add({ id: `waver/${which}/rest`, value: restMs, unit: "ms", note });
    add({ id: `waver/${which}/pass`, value: passMs / 1000, unit: "s", note });
  }
}

/** Whole clips of a model: full attention, VORTA, PAB, few steps, and all together. */
async function clips({ gpu, size, add }: Context, name: "hunyuan" | "14b"): Promise<void> {
  const run = await headlineOf(gpu, size, [name]);
  for (const row of run.rows) {
    add({ id: `${name}/${row.clip}`, value: secondsOf(row), unit: "s", note: row.attention });
  }
  const { decode } = run.rows[0] ?? {};
  if (decode !== undefined) add({ id: `decode/${name}`, value: decode, unit: "s" });
}

/** Whole clips of the demo model, with the choices that it was trained to make. */
async function demo({ gpu, size, add }: Context): Promise<void> {
  await timeDemoClips(gpu, size, ({ setting, density, denoise, decode, step, kernels }) => {
    const id = `demo/${setting}`;
    add({ id: `${id}/denoising`, value: denoise, unit: "s", density });
    add({ id: `${id}/decoding`, value: decode, unit: "s" });
    add({ id: `${id}/step`, value: step, unit: "s" });
    for (const [group, ms] of Object.entries(kernels ?? {})) {
      add({ id: `${id}/kernels/${group}`, value: ms, unit: "ms" });
    }
  });
}

async function headlineOf(gpu: Gpu, size: Size, models: NonNullable<Parameters<typeof measureHeadline>[2]["models"]>) {
  const on = { adapter: "", source: "", precision: "" };
  const run = await measureHeadline(gpu, on, { size, models, samples: 1, "longest-decode": 8 });
  if (run.failures.length > 0) throw new Error(run.failures.map(({ what, why }) => `${what}: ${why}`).join("; "));
  return run;
}
