/**
 * `deno task bench:sparse`: what sparse attention costs beside dense attention, side by side in one run.
 *
 * Efficiency is dense time × density / sparse time: 1 where a pattern that keeps a tenth of the pairs takes a tenth of
 * the time, with all that it needs around the attention itself.
 *
 * @module
 */
import { choice, flag, type OptionValues, text } from "../cli/options.ts";
import { parseCommand } from "../cli/parse.ts";
import { vortaOptions } from "../cli/vorta_options.ts";
import { TilereelError } from "../errors.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { attention } from "../gpu/ops/attention.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { VortaAttention } from "../model/vorta/attention.ts";
import { defaultSettings } from "../model/vorta/settings.ts";
import type { Grid } from "../model/wan/grid.ts";
import type { Size } from "./case.ts";
import { measure } from "./measure.ts";
import { normalTensor } from "./random.ts";
import { markdownTable } from "./table.ts";
import { openVariants } from "./variants.ts";

const options = {
  gpu: text({ group: "Bench", value: "NAME", help: "Adapter to run on, as for generate.", default: "auto" }),
  precision: choice({ group: "Bench", of: ["f32", "f16"], help: "Of matrix operands.", default: "f32" }),
  size: choice({ group: "Bench", of: ["small", "large"], help: "Problem sizes.", default: "by kind of adapter" }),
  json: flag({ group: "Bench", help: "Print JSON instead of a table." }),
  tile: vortaOptions.tile,
};

interface Shape {
  readonly heads: number;
  readonly headDim: number;
  readonly grid: Grid;
}

/** The large one is Wan 1.3B's at 832x480, 81 frames. */
const SHAPES: Readonly<Record<Size, Shape>> = {
  small: { heads: 8, headDim: 32, grid: [8, 16, 16] },
  large: { heads: 12, headDim: 128, grid: [21, 30, 52] },
};

interface Result {
  readonly pattern: string;
  readonly density: number;
  readonly ms: number;
  readonly spread: number;
  readonly efficiency: number;
}

if (import.meta.main) {
  try {
    await bench();
    Deno.exit(0);
  } catch (error) {
    if (!(error instanceof TilereelError)) throw error;
    console.error(`bench: ${error.message}`);
    Deno.exit(1);
  }
}

async function bench(): Promise<void> {
  const { values, help } = parseCommand(Deno.args, options, "bench:sparse");
  if (help) {
    console.log("Usage: deno task bench:sparse [--gpu NAME] [--precision f32|f16] [--size small|large] [--json]");
    return;
  }
  const { adapter, variants } = await openVariants(values.gpu ?? "auto", values.precision ?? "f32");
  const { gpu } = variants.find(({ used }) => used)!;
  const shape = SHAPES[values.size ?? (adapter.software ? "small" : "large")];
  const results = await run(gpu, shape, values);
  const { heads, headDim, grid } = shape;
  const title = `${adapter.name}: ${grid.join("×")} tokens, ${heads} heads of ${headDim}`;
  if (values.json) console.log(JSON.stringify({ adapter: adapter.name, ...shape, results }));
  else console.log(`\n${title}\n\n${table(results)}`);
  for (const { gpu } of variants) gpu.close();
}

async function run(gpu: Gpu, { heads, headDim, grid }: Shape, values: OptionValues<typeof options>): Promise<Result[]> {
  const settings = { ...defaultSettings(grid), ...values.tile && { tile: values.tile } };
  const tokens = grid[0] * grid[1] * grid[2];
  const [q, k, v] = [1, 2, 3].map(() => normalTensor(gpu, [1, tokens, heads * headDim])) as [Tensor, Tensor, Tensor];
  const vorta = new VortaAttention(gpu, { heads, headDim }, grid, settings);
  const results: Result[] = [];
  let dense = 0;
  const time = async (pattern: string, density: number, work: () => Tensor) => {
    const { ms, spread } = await measure(gpu, () => gpu.release(work()));
    dense ||= ms;
    results.push({ pattern, density, ms, spread, efficiency: dense * density / ms });
    console.error(`${pattern}: ${ms.toFixed(2)} ms`);
  };
  await time("dense", 1, () => attention(gpu, q, k, v, { heads }));
  const { full, sliding, coreset } = vorta.pairs;
  const sizes = (sizes: Grid) => sizes.join("×");
  await time(
    `sliding tile, ${sizes(settings.tile)} in windows of ${sizes(settings.window)}`,
    sliding / full,
    () => vorta.single("sliding")(q, k, v, 0),
  );
  await time(
    `core-set, buckets of ${sizes(settings.bucket)}`,
    coreset / full,
    () => vorta.single("coreset")(q, k, v, 0),
  );
  await time("core-set: selection alone", 0, () => vorta.kept(q)!);
  // Every head through full attention by way of the routes: what grouping heads costs.
  const routes = [new Uint8Array(heads)];
  await time("routed, all heads full", 1, () => gpu.scope(() => vorta.routed(routes)(q, k, v, 0)));
  return results;
}

function table(results: readonly Result[]): string {
  const percent = (share: number) => `${(100 * share).toFixed(1)}%`;
  return markdownTable([
    ["attention", "density", "ms", "spread", "efficiency"],
    ...results.map(({ pattern, density, ms, spread, efficiency }) => [
      pattern,
      density > 0 ? percent(density) : "",
      ms.toFixed(2),
      percent(spread),
      density > 0 ? efficiency.toFixed(2) : "",
    ]),
  ]);
}
