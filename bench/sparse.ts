/**
 * `deno task bench:sparse`: what sparse attention costs beside dense attention, side by side in one run.
 *
 * Efficiency is dense time × density / sparse time: 1 where a pattern that keeps a tenth of the pairs takes a tenth of
 * the time, with all that it needs around the attention itself, unless its row says otherwise.
 *
 * @module
 */
import { gpuOptions, precisionOption } from "../tools/program/gpu_options.ts";
import { choice, type OptionValues, text } from "../tools/program/options.ts";
import { vedaOptions } from "../tools/program/clip/veda_options.ts";
import { vortaOptions } from "../tools/program/clip/vorta_options.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { attention } from "../gpu/ops/attention.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { TilePattern } from "../model/veda/tile_pattern.ts";
import { defaultCapacity, defaultShape, type TileShape } from "../model/veda/tile_shapes.ts";
import { VortaAttention } from "../model/vorta/attention.ts";
import { measuredSettings } from "./measured_sizes.ts";
import { type Grid, product } from "../model/attention/grid.ts";
import { measure } from "./measure.ts";
import { normalTensor } from "./random.ts";
import { handOver, resultOptions, saveResult } from "./result.ts";
import { runAsProgram } from "../tools/program/run_as_program.ts";
import { markdownTable } from "./table.ts";
import { openVariants } from "./variants.ts";
import { SHAPE_NAMES, type ShapeName, WAN_SHAPES } from "./wan_shapes.ts";

const options = {
  ...gpuOptions("Bench"),
  precision: precisionOption("Bench"),
  shape: choice({
    group: "Bench",
    choices: SHAPE_NAMES,
    help: "Of the attention: a small one, Wan 1.3B's at 832x480, 81 frames, or Wan 14B's at 1280x720, 81 frames.",
    elsewhere: ["size"],
    default: "small on software adapters, else 1.3b",
  }),
  method: choice({
    group: "Bench",
    choices: ["all", "vorta", "veda"],
    help: "What to time beside dense.",
    default: "all",
  }),
  keeps: text({ group: "Bench", value: "X,Y", help: "Shares of tiles that Veda keeps.", default: "0.2,0.1,0.05" }),
  ...resultOptions,
  tile: vortaOptions.tile,
  "tile-shape": vedaOptions["tile-shape"],
};

interface Shape {
  readonly heads: number;
  readonly headDim: number;
  readonly grid: Grid;
  /** Heads that dense attention is timed on; its time is scaled up from there, for it is the same for every head. */
  readonly denseHeads: number;
}

/** Heads that dense attention is timed on, at most. */
const DENSE_HEADS = 12;

function shapeOf(name: ShapeName): Shape {
  const { config: { heads, headDim }, grid } = WAN_SHAPES[name];
  return { heads, headDim, grid, denseHeads: Math.min(heads, DENSE_HEADS) };
}

/** Veda's shares of tiles, where none are named. */
const KEEPS = [0.2, 0.1, 0.05];

interface Result {
  readonly pattern: string;
  /** What it is, for programs. */
  readonly kind: Kind;
  readonly density: number;
  readonly ms: number;
  readonly spread: number;
  readonly efficiency: number;
  /** Where it is what comes before attention: its time as a share of that of the attention. */
  readonly share?: number;
}

if (import.meta.main) await runAsProgram({ command: "deno task bench:sparse", options, run: bench });

async function bench(values: OptionValues<typeof options>): Promise<void> {
  const { adapter, variants } = await openVariants({ precision: "auto", ...values });
  const { gpu } = variants.find(({ used }) => used)!;
  const name = values.shape ?? (adapter.software ? "small" : "1.3b"), shape = shapeOf(name);
  const { heads, headDim, grid } = shape;
  const { precision, description: { source } } = gpu.settings;
  const about = { adapter: adapter.name, source, precision, shape: name, heads, headDim, grid };
  const results = await run(gpu, shape, values, (results) => saveResult(values, { ...about, results }));
  const title = `${adapter.name} (${source}, ${precision}): ${grid.join("×")} tokens, ${heads} heads of ${headDim}`;
  handOver(values, { ...about, results }, `\n${title}\n\n${table(results)}`);
  for (const { gpu } of variants) gpu.close();
}

/** "dense", "sliding", "coreset", "veda 0.1", and "part" of what stands beside it. */
type Kind = string;

/** Times one pattern; `of` are milliseconds that its time is put beside. */
type Time = (kind: Kind, pattern: string, density: number, work: () => Tensor, of?: number) => Promise<number>;

async function run(
  gpu: Gpu,
  shape: Shape,
  values: OptionValues<typeof options>,
  soFar: (results: readonly Result[]) => void,
): Promise<Result[]> {
  const { heads, headDim, grid, denseHeads } = shape;
  const dims = [1, product(grid), heads * headDim];
  const [q, k, v] = [0, 1, 2].map((which) => normalTensor(gpu, dims, 1, "f32", which)) as [Tensor, Tensor, Tensor];
  const results: Result[] = [];
  let dense = 0;
  const add = (
    kind: Kind,
    pattern: string,
    density: number,
    { ms, spread }: { ms: number; spread: number },
    of?: number,
  ) => {
    dense ||= ms;
    results.push({ pattern, kind, density, ms, spread, efficiency: dense * density / ms, ...of && { share: ms / of } });
    soFar(results);
    console.error(`${pattern}: ${ms.toFixed(2)} ms`);
    return ms;
  };
  const time: Time = async (kind, pattern, density, work, of) =>
    add(kind, pattern, density, await measure(gpu, () => gpu.release(work())), of);

  const only = gpu.upload(Uint32Array.from({ length: denseHeads }, (_, head) => head), [denseHeads], "u32");
  const some = await measure(gpu, () => gpu.release(attention(gpu, q, k, v, { heads, only })));
  const scaled = denseHeads < heads ? ` (${denseHeads} heads timed, scaled to ${heads})` : "";
  add("dense", `dense${scaled}`, 1, { ms: some.ms * heads / denseHeads, spread: some.spread });
  if (values.method !== "veda") await timeVorta(gpu, shape, [q, k, v], time, values);
  if (values.method !== "vorta") {
    const tiles = values["tile-shape"] ?? defaultShape(grid, defaultCapacity(grid));
    for (const keep of values.keeps?.split(",").map(Number) ?? KEEPS) {
      await timeVeda(gpu, shape, [q, k, v], time, tiles, keep);
    }
  }
  return results;
}

async function timeVorta(
  gpu: Gpu,
  { heads, headDim, grid }: Shape,
  [q, k, v]: readonly [Tensor, Tensor, Tensor],
  time: Time,
  values: OptionValues<typeof options>,
): Promise<void> {
  const settings = { ...measuredSettings(grid), ...values.tile && { tile: values.tile } };
  using vorta = new VortaAttention(gpu, { heads, headDim }, { grid, kept: 0 }, settings);
  const { full, sliding, coreset } = vorta.pairs;
  await time(
    "sliding",
    `sliding tile, ${sizes(settings.tile)} in windows of ${sizes(settings.window)}`,
    sliding / full,
    () => vorta.single("sliding")(q, k, v, 0),
  );
  await time(
    "coreset",
    `core-set, buckets of ${sizes(settings.bucket)}`,
    coreset / full,
    () => vorta.single("coreset")(q, k, v, 0),
  );
  await time("part", "core-set: selection alone", 0, () => vorta.select(q, k)!.order);
  // Every head through full attention by way of the routes: what grouping heads costs.
  const routes = [new Uint8Array(heads)];
  await time("part", "routed, all heads full", 1, () => gpu.scope(() => vorta.routed(routes)(q, k, v, 0)));
}

async function timeVeda(
  gpu: Gpu,
  { heads, headDim, grid }: Shape,
  [q, k, v]: readonly [Tensor, Tensor, Tensor],
  time: Time,
  tiles: TileShape,
  keep: number,
): Promise<void> {
  using pattern = new TilePattern(gpu, { heads, headDim }, { grid, kept: 0 }, tiles, keep);
  const [pq, pk] = [1, 2].map(() => normalTensor(gpu, [heads, 3 * headDim, headDim], 1e-2)) as [Tensor, Tensor];
  const choose = () => gpu.scope(() => pattern.select(pattern.scores(q, k, { q: pq, k: pk })));
  const name = `veda, keep ${keep}, tiles of ${sizes(tiles)}`;
  const runs = choose();
  // Tiles have different sizes and are not selected evenly, so the computed pairs are counted.
  const density = await keptShare(gpu, pattern, runs, heads);
  const attending = await time("part", `${name}: attention alone`, density, () => pattern.attend(q, k, v, runs));
  await time(`veda ${keep}`, `${name}: all of it`, density, () => gpu.scope(() => pattern.attend(q, k, v, choose())));
  await time("part", `${name}: pooling, scores and selection`, 0, choose, attending);
  for (const tensor of [pq, pk, runs]) gpu.release(tensor);
}

/** Pairs of queries and keys in the tiles that were picked, of all. */
async function keptShare(gpu: Gpu, { tiled, keep }: TilePattern, runs: Tensor, heads: number): Promise<number> {
  const counts = new Uint32Array(await gpu.readBytes(runs));
  let pairs = 0, at = 0;
  for (let head = 0; head < heads; head++) {
    for (const [row, tile] of tiled.tiles.entries()) {
      let keys = 0;
      for (let kept = 0; kept < keep[row]!; kept++, at++) keys += counts[2 * at + 1]!;
      pairs += keys * tile.count;
    }
  }
  return pairs / (heads * tiled.tokens ** 2);
}

function sizes(grid: Grid): string {
  return grid.join("×");
}

function table(results: readonly Result[]): string {
  const percent = (share: number) => `${(100 * share).toFixed(1)}%`;
  return markdownTable([
    ["attention", "density", "ms", "spread", "efficiency", "of the attention's time"],
    ...results.map(({ pattern, density, ms, spread, efficiency, share }) => [
      pattern,
      density > 0 ? percent(density) : "",
      ms.toFixed(2),
      percent(spread),
      density > 0 ? efficiency.toFixed(2) : "",
      share === undefined ? "" : percent(share),
    ]),
  ]);
}
