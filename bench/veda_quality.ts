/**
 * `deno task bench:veda`: how well Veda selects tiles. On states of the model's own sampling runs, the tiles of a trained
 * scorer are compared with those of mean pooling, of an untrained scorer and of the oracle: recall, the attention in
 * them, and the error of the output. Each scorer is measured on its own tile shapes. With other prompts and seeds than
 * in training, no state is one that a scorer was trained on.
 *
 * @module
 */
import { type LongRun, openLongRun } from "../tools/program/long_run.ts";
import { integer, type OptionValues, path } from "../tools/program/options.ts";
import {
  type OpenRuns,
  openSamplingRuns,
  planSampling,
  samplingRunOptions,
} from "../tools/program/sampling_options.ts";
import { trainedModelOptions } from "../tools/program/model_options.ts";
import { sizesText } from "../tools/program/clip/vorta_options.ts";
import { TilereelError } from "../gpu/common/errors.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { tileAgreement } from "../gpu/ops/tile_agreement.ts";
import { tileHeat } from "../gpu/ops/tile_heat.ts";
import { readTogether } from "../gpu/read_together.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { TensorOwner } from "../gpu/tensor_owner.ts";
import { sparseError, squaredNorm } from "../model/veda/oracle_error.ts";
import type { AttentionState } from "../model/veda/sampling_states.ts";
import { MASS_TERMS, NO_TERMS, uploadScorer } from "../model/veda/scorer.ts";
import type { VedaScores } from "../model/veda/attention.ts";
import { randomBits } from "../model/training/random.ts";
import { headsByShape, TilePatterns } from "../model/veda/tile_groups.ts";
import { defaultShape, type TileShapes, uniformShapes } from "../model/veda/tile_shapes.ts";
import { spread } from "../model/veda/examine.ts";
import { nearestSize } from "../model/attention/sizes.ts";
import { loadVeda } from "../model/veda/veda_file.ts";
import { type Grid, product } from "../model/attention/grid.ts";
import { runAsProgram } from "../tools/program/run_command.ts";
import { benchOptions, DEFAULT_PROMPTS, keepsOption, promptsOption } from "./program.ts";
import { percent, tableOf } from "./table.ts";

/** Shares of tiles that Veda keeps, where none are given. */
const KEEPS = [0.5, 0.25, 0.125];

const options = {
  ...samplingRunOptions,
  ...trainedModelOptions,
  prompts: promptsOption,
  count: integer({ help: "Use the first N prompts.", default: 4, min: 1 }),
  tiles: path({
    value: "FILE,FILE",
    help: 'Files of "train tiles" and "search tiles" to compare. Of tiles for several sizes, the nearest are used.',
  }),
  keeps: keepsOption(KEEPS),
  looks: integer({ help: "Denoising steps of a run to measure.", default: 4, min: 1 }),
  json: benchOptions.json,
};

if (import.meta.main) await runAsProgram({ name: "deno task bench:veda", options, run: bench });

/** A way to select tiles. */
interface Picker {
  readonly name: string;
  /** The shapes of its tiles in words. */
  readonly shapes: string;
  readonly plan: TileShapes;
  /** By the teacher's heat, or by scores. */
  readonly by: "oracle max" | "oracle sum" | VedaScores;
}

/** Means over layers, heads and states. */
interface Result {
  readonly picker: string;
  readonly shapes: string;
  readonly keep: number;
  /** The shares of the tiles of the oracle by max, and by sum, that are selected. */
  readonly recallMax: number;
  readonly recallSum: number;
  /** The share of attention that lies in the selected tiles. */
  readonly kept: number;
  /** ‖O_sparse − O_full‖² / ‖O_full‖² */
  readonly error: number;
}

async function bench(values: OptionValues<typeof options>): Promise<void> {
  const { prompts = DEFAULT_PROMPTS, count = 4, keeps = KEEPS, json = false } = values;
  const all = await planSampling({ ...values, prompts });
  const sampling = { ...all, clips: all.clips.slice(0, count) };
  using work = await openLongRun({ quiet: json, values, stopping: "Stopping after this step." });
  using open = await openSamplingRuns(work, sampling);
  const pickers = await openPickers(work.gpu, open, values, sampling.grid);
  const results = await measure(work, open, pickers, keeps, values.looks ?? 4);
  if (json) console.log(JSON.stringify({ prompts: sampling.clips.length, results }));
  else print(results, keeps);
}

/** Opens all that are compared. */
async function openPickers(
  gpu: Gpu,
  { runs }: OpenRuns,
  { tiles }: OptionValues<typeof options>,
  grid: Grid,
): Promise<Picker[]> {
  if (tiles === undefined) throw new TilereelError('--tiles is missing; give a file that "tilereel train tiles" made');
  const pickers = new Map<string, Picker>();
  for (const path of tiles.split(",")) {
    const file = await loadVeda(path);
    const sizes = [file, ...file.others ?? []].flatMap((file) => file.grid ? [{ ...file, grid: file.grid }] : []);
    const { scorer, shapes: planned, tileTokens, target = "max" } = nearestSize(grid, sizes) ?? file;
    const plan = planned ?? uniformShapes(defaultShape(grid, tileTokens), runs);
    const shapes = planned ? `the plan of ${path}` : sizesText(plan.shapes[0]!);
    const add = (name: string, by: Picker["by"]) => pickers.set(`${name} ${shapes}`, { name, shapes, plan, by });
    add("oracle, max", "oracle max");
    add("oracle, sum", "oracle sum");
    if (scorer) {
      const projections = uploadScorer(new TensorOwner(gpu), scorer);
      add(`trained to ${target}, ${path}`, { projections, terms: scorer.terms ?? NO_TERMS });
    }
    add("second order", { terms: MASS_TERMS });
    add("means and counts", { terms: { count: true, second: false } });
    add("means", { terms: NO_TERMS });
    add("random", "random");
  }
  return [...pickers.values()];
}

/** Measures on states of all runs. */
async function measure(
  { gpu, onProgress, signal }: Pick<LongRun, "gpu" | "onProgress" | "signal">,
  { runs }: OpenRuns,
  pickers: readonly Picker[],
  keeps: readonly number[],
  looks: number,
): Promise<Result[]> {
  const { heads, headDim } = runs;
  using stack = new DisposableStack();
  const patterns = keeps.map((keep) => stack.use(new TilePatterns(gpu, { heads, headDim }, keep)));
  const owner = stack.use(new TensorOwner(gpu)), groups = pickers.map(({ plan }) => headsByShape(owner, plan));
  const sums = pickers.map(() => keeps.map(() => ({ max: [0, 0], sum: [0, 0], kept: 0, error: 0 })));
  const total = Array.from({ length: runs.count }, (_, run) => runs.steps(run)).reduce((a, b) => a + b);
  let states = 0, done = 0;
  for (let run = 0; run < runs.count; run++) {
    const wanted = spread(runs.steps(run), looks);
    const found: { tensors: Tensor[]; add: (numbers: readonly Float32Array[]) => void }[] = [];
    const onState = (state: AttentionState) => {
      if (!wanted.includes(state.step)) return;
      states++;
      const tokens = product(state.layout.grid);
      let norms: Float32Array;
      found.push({ tensors: [gpu.keep(squaredNorm(gpu, state.y, heads))], add: ([numbers]) => norms = numbers! });
      for (const [i, { by }] of pickers.entries()) {
        for (const { of: shape, heads: own, only } of groups[i]![state.layer]!) {
          gpu.scope(() => {
            const { layout } = patterns[0]!.of(state.layout, shape);
            const heat = tileHeat(gpu, state.q, state.k, state.lse, { heads, layout, only });
            for (const [j, at] of patterns.entries()) {
              const pattern = at.of(state.layout, shape);
              const scores = by === "oracle max"
                ? heat.max
                : by === "oracle sum"
                ? heat.sum
                : by === "random"
                ? pattern.randomScores(1, randomBits(state.step, state.layer))
                : pattern.scores(state.q, state.k, { ...by, projections: by.projections?.[state.layer] }, only);
              const picked = pattern.select(scores, only);
              const agree = (target: Tensor) =>
                tileAgreement(gpu, picked, pattern.select(target, only), heat.sum, layout, pattern.budget, only);
              const tensors = [agree(heat.max), agree(heat.sum), sparseError(gpu, state, picked, pattern, heads, only)];
              tensors.forEach((tensor) => gpu.keep(tensor));
              found.push({
                tensors,
                add: ([max, sum, errors]) => {
                  const to = sums[i]![j]!;
                  for (const [place, head] of own.entries()) {
                    for (const k of [0, 1]) to.max[k]! += max![4 * place + k]!;
                    for (const k of [0, 1]) to.sum[k]! += sum![4 * place + k]!;
                    to.kept += max![4 * place + 2]! / tokens;
                    to.error += errors![head]! / norms[head]!;
                  }
                },
              });
            }
          });
        }
      }
    };
    const onStep = async (step: number) => {
      onProgress({ stage: "look", done: ++done, total });
      if (!wanted.includes(step)) return;
      const tensors = found.flatMap(({ tensors }) => tensors), numbers = await readTogether(gpu, tensors);
      for (const { tensors, add } of found.splice(0)) add(numbers.splice(0, tensors.length));
      for (const tensor of tensors) gpu.release(tensor);
    };
    await runs.sample(run, { onState, onStep, signal });
  }
  return pickers.flatMap(({ name, shapes }, i) =>
    keeps.map((keep, j) => {
      const { max, sum, kept, error } = sums[i]![j]!, all = states * heads;
      return {
        picker: name,
        shapes,
        keep,
        recallMax: max[0]! / Math.max(1, max[1]!),
        recallSum: sum[0]! / Math.max(1, sum[1]!),
        kept: kept / all,
        error: error / all,
      };
    })
  );
}

function print(results: readonly Result[], keeps: readonly number[]): void {
  for (const keep of keeps) {
    const table = tableOf(results.filter((result) => result.keep === keep), {
      "picked by": (r) => r.picker,
      "shapes": (r) => r.shapes,
      "recall, max": (r) => percent(r.recallMax),
      "recall, sum": (r) => percent(r.recallSum),
      "attention kept": (r) => percent(r.kept),
      "error": (r) => percent(r.error),
    });
    console.log(`\nkeep ${keep}\n\n${table}`);
  }
}
