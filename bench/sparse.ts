/**
 * `deno task bench:sparse`: the time of sparse attention beside that of dense attention in the same run.
 *
 * Efficiency is dense time × density / sparse time. It is 1 where a pattern that keeps a tenth of the pairs takes a tenth
 * of the time, with all that it needs around the attention itself, unless its row says otherwise.
 *
 * @module
 */
import type { OptionValues } from "../tools/program/options.ts";
import { runAsProgram } from "../tools/program/run_command.ts";
import { vedaOptions } from "../tools/program/clip/veda_options.ts";
import { vortaOptions } from "../tools/program/clip/vorta_options.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { attention } from "../gpu/ops/attention.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { type Grid, product } from "../model/attention/grid.ts";
import { MASS_TERMS } from "../model/veda/scorer.ts";
import { TilePattern } from "../model/veda/tile_pattern.ts";
import { defaultCapacity, defaultShape } from "../model/veda/tile_shapes.ts";
import { VortaAttention } from "../model/vorta/attention.ts";
import { operands } from "./cases.ts";
import { measure } from "./measure.ts";
import {
  attentionBenchOptions,
  benchOptions,
  handOver,
  keepsOption,
  type MeasuredOn,
  onGpu,
  saveResult,
  shapeOn,
} from "./program.ts";
import { type ModelShape, SHAPES } from "./shapes.ts";
import { randomProjections, vsa } from "./steps/methods.ts";
import { percent, tableOf } from "./table.ts";

/** Shares of tiles that Veda keeps, where none are given. */
const KEEPS = [0.2, 0.1, 0.05];

const options = {
  ...benchOptions,
  ...attentionBenchOptions,
  keeps: keepsOption(KEEPS),
  tile: vortaOptions.tile,
  "tile-shape": vedaOptions["tile-shape"],
};

type Values = OptionValues<typeof options>;

/** Dense attention is timed on at most this number of heads and scaled up, because all heads take the same time. */
const DENSE_HEADS = 12;

interface Result {
  readonly pattern: string;
  /** For programs: "dense", "sliding", "coreset", "veda 0.1", or "part" of what stands beside it. */
  readonly kind: string;
  readonly density: number;
  readonly ms: number;
  readonly spread: number;
  readonly efficiency: number;
  /** For what comes before attention: its time as a share of the attention's. */
  readonly share?: number;
}

/** The data of a run. */
export interface SparseRun extends MeasuredOn {
  readonly shape: string;
  readonly heads: number;
  readonly headDim: number;
  readonly grid: Grid;
  readonly results: readonly Result[];
}

if (import.meta.main) await runAsProgram({ name: "deno task bench:sparse", options, run: bench });

function bench(values: Values): Promise<void> {
  return onGpu(values, async (gpu, on) => {
    const name = shapeOn(gpu, values), shape = SHAPES[name];
    const { config: { heads, headDim, dim }, grid, kept } = shape, qkv = operands(gpu, dim, product(grid) + kept);
    const results: Result[] = [], data: SparseRun = { ...on, shape: name, heads, headDim, grid, results };
    const time: Time = async (kind, pattern, density, work, { of, scale = 1 } = {}) => {
      const { spread, ...measured } = await measure(gpu, () => gpu.release(work()));
      const ms = measured.ms * scale, efficiency = (results[0]?.ms ?? ms) * density / ms;
      results.push({ pattern, kind, density, ms, spread, efficiency, ...of && { share: ms / of } });
      saveResult(values, data);
      console.error(`${pattern}: ${ms.toFixed(2)} ms`);
      return ms;
    };
    const some = Math.min(heads, DENSE_HEADS), only = gpu.upload(Uint32Array.from(Array(some).keys()), [some], "u32");
    const scaled = some < heads ? ` (${some} heads timed, scaled to ${heads})` : "", scale = heads / some;
    await time("dense", `dense${scaled}`, 1, () => attention(gpu, ...qkv, { heads, only }), { scale });
    const { method = "all", keeps = KEEPS } = values, isTimed = (one: typeof method) => [one, "all"].includes(method);
    if (isTimed("vorta")) await timeVorta(gpu, shape, qkv, time, values);
    for (const keep of isTimed("veda") ? keeps : []) await timeVeda(gpu, shape, qkv, time, values, keep);
    if (method === "vsa") await timeVsa(gpu, shape, qkv, time);
    const title = `${on.adapter} (${on.source}, ${on.precision}): ${sizes(grid)} tokens, ${heads} heads of ${headDim}`;
    handOver(values, data, `\n${title}\n\n${table(results)}`);
  });
}

/** Times a pattern and returns its milliseconds times `scale`; `of` is the time of the attention that it comes before. */
type Time = (
  ...args: [kind: string, pattern: string, density: number, work: () => Tensor, { of?: number; scale?: number }?]
) => Promise<number>;
type Operands = [Tensor, Tensor, Tensor];

async function timeVorta(
  gpu: Gpu,
  { config, grid, kept, vorta: usual }: ModelShape,
  qkv: Operands,
  time: Time,
  { tile }: Values,
) {
  const settings = { ...usual, ...tile && { tile } };
  using vorta = new VortaAttention(gpu, config, { grid, kept }, settings);
  const { full, sliding, coreset } = vorta.pairs, [q, k] = qkv;
  const windows = `${sizes(settings.tile)} in windows of ${sizes(settings.window)}`;
  await time("sliding", `sliding tile, ${windows}`, sliding / full, () => vorta.single("sliding")(...qkv, 0));
  const buckets = `buckets of ${sizes(settings.bucket)}`;
  await time("coreset", `core-set, ${buckets}`, coreset / full, () => vorta.single("coreset")(...qkv, 0));
  await time("part", "core-set: selection alone", 0, () => vorta.select(q, k)!.order);
  // All heads take full attention through the routes, which shows what grouping heads costs.
  const routes = [new Uint8Array(config.heads)];
  await time("part", "routed, all heads full", 1, () => gpu.scope(() => vorta.routed(routes)(...qkv, 0)));
}

async function timeVsa(gpu: Gpu, shape: ModelShape, qkv: Operands, time: Time) {
  using method = vsa(gpu, shape);
  const { name, density, attend } = method, [gate] = qkv;
  await time("vsa", `${name}, without a gate`, density, () => attend!(...qkv, 0));
  await time("vsa", `${name}, with a gate`, density, () => attend!(...qkv, 0, gate));
}

async function timeVeda(gpu: Gpu, shape: ModelShape, qkv: Operands, time: Time, values: Values, keep: number) {
  const { config, grid, kept } = shape, tile = values["tile-shape"] ?? defaultShape(grid, defaultCapacity(grid));
  using pattern = new TilePattern(gpu, config, { grid, kept }, tile, keep);
  const projections = randomProjections(gpu, config), [q, k] = qkv;
  const choose = () => gpu.scope(() => pattern.select(pattern.scores(q, k, { projections, terms: MASS_TERMS })));
  const name = `veda, keep ${keep}, tiles of ${sizes(tile)}`, runs = choose();
  // Tiles have different sizes and are not selected evenly, so the computed pairs are counted.
  const density = await keptShare(gpu, pattern, runs, shape);
  const attending = await time("part", `${name}: attention alone`, density, () => pattern.attend(...qkv, runs));
  await time(`veda ${keep}`, `${name}: all of it`, density, () => gpu.scope(() => pattern.attend(...qkv, choose())));
  await time("part", `${name}: pooling, scores and selection`, 0, choose, { of: attending });
  for (const tensor of [projections.q, projections.k, runs]) gpu.release(tensor);
}

/** The share of the pairs of queries and keys that lie in the selected tiles. */
async function keptShare(
  gpu: Gpu,
  { tiled: { tiles, tokens }, keep }: TilePattern,
  runs: Tensor,
  { kept, config: { heads } }: ModelShape,
): Promise<number> {
  const counts = new Uint32Array(await gpu.readBytes(runs));
  // Each tile attends to the kept tokens, too, and those attend to all.
  const rows = [...tiles.entries()].map(([row, { count }]) => ({ count, runs: keep[row]! + (kept > 0 ? 1 : 0) }));
  if (kept > 0) rows.push({ count: kept, runs: 1 });
  let pairs = 0, at = 0;
  for (let head = 0; head < heads; head++) {
    for (const { count, runs } of rows) {
      let keys = 0;
      for (const end = at + runs; at < end; at++) keys += counts[2 * at + 1]!;
      pairs += keys * count;
    }
  }
  return pairs / (heads * (tokens + kept) ** 2);
}

function sizes(grid: Grid): string {
  return grid.join("×");
}

function table(results: readonly Result[]): string {
  return tableOf(results, {
    "attention": (r) => r.pattern,
    "density": (r) => r.density > 0 ? percent(r.density) : "",
    "ms": (r) => r.ms.toFixed(2),
    "spread": (r) => percent(r.spread),
    "efficiency": (r) => r.density > 0 ? r.efficiency.toFixed(2) : "",
    "of the attention's time": (r) => r.share === undefined ? "" : percent(r.share),
  });
}
