/**
 * `deno task bench:steps`: the seconds of a denoising step at Wan's sizes, with full and with sparse attention and with
 * random weights.
 *
 * Each kind of attention is timed over a block, or over the few after which VORTA's routes repeat. A whole forward pass
 * is timed too where it is short enough and all blocks fit. Otherwise a forward pass is computed as the block's time ×
 * layers, and the time around the blocks.
 *
 * @module
 */
import { flag, integer, type OptionValues } from "../tools/program/options.ts";
import { runAsProgram } from "../tools/program/run_command.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { formatBytes } from "../gpu/common/format_bytes.ts";
import { leastCommonMultiple } from "../gpu/common/divisors.ts";
import { measure } from "./measure.ts";
import { type Profiled, profiled } from "./profiled.ts";
import {
  attentionBenchOptions,
  benchOptions,
  handOver,
  type MeasuredOn,
  onGpu,
  saveResult,
  shapeOn,
} from "./program.ts";
import { type ModelShape, SHAPES } from "./shapes.ts";
import { full, type TimedMethod, veda, vorta, vsa } from "./steps/methods.ts";
import { noAttention, openTransformer, type TimedTransformer } from "./steps/transformer.ts";
import { percent, secondsText, tableOf } from "./table.ts";

const options = {
  ...benchOptions,
  ...attentionBenchOptions,
  block: flag({ help: "Load and time only one block.", default: "for 14b" }),
  longest: integer({
    value: "SECONDS",
    help: "A whole forward pass that would take longer is not timed.",
    default: 8,
    min: 0,
  }),
};

/** The speed-up that VORTA's authors report at 14B. The share of full heads that allows it is looked for. */
const GOAL = 1.76;
/** The shares of full heads that are timed. The first has a target, the others are for the search. */
const FULL_HEADS = [0.3, 0, 0.6];
const KEEPS = [0.1, 0.05];
/** Kernels and gaps that are listed for each kind of attention. */
const LISTED = 8, LISTED_GAPS = 3;

/** The result for one kind of attention. */
interface Result extends Pick<TimedMethod, "density" | "fullHeads" | "keep"> {
  readonly method: string;
  /** The times of a block, of its self-attention between the projections, and of the rest. */
  readonly blockMs: number;
  readonly attentionMs: number;
  readonly restMs: number;
  readonly blockSpread: number;
  /** The number of blocks of which `blockMs` is the mean. */
  readonly blocksTimed: number;
  /** Seconds: the block's time × layers, and the time outside the blocks. */
  readonly fromBlocks: number;
  /** The seconds of a forward pass that was timed. */
  readonly whole?: number;
  readonly wholeSpread?: number;
  /** Full attention's time over its own, of whole passes where both were timed. */
  readonly speedUp: number;
  /** The profile of the pass, or else of the blocks; absent where the adapter has no timestamps. */
  readonly profile?: Profiled;
}

/** The data of a run. */
export interface StepsRun extends MeasuredOn, Pick<ModelShape, "clip" | "grid" | "passes"> {
  readonly shape: string;
  readonly layers: number;
  /** The number of blocks on the GPU. */
  readonly blocks: number;
  /** The time before and after the blocks. */
  readonly outerMs: number;
  readonly results: readonly Result[];
  /** The share of full heads at which VORTA is {@link GOAL} times as fast as full attention; null where none is. */
  readonly shareAtGoal?: number | null;
  /** The most bytes of GPU memory. */
  readonly peak: number;
}

if (import.meta.main) await runAsProgram({ name: "deno task bench:steps", options, run: bench });

function bench(values: OptionValues<typeof options>): Promise<void> {
  return onGpu(values, async (gpu, on) => {
    const name = shapeOn(gpu, values), shape = SHAPES[name];
    const { clip, grid, config: { layers } } = shape, { method: which = "all", longest = 8 } = values;
    const transformer = await openTransformer(
      gpu,
      shape,
      values.block ?? shape.byBlock ? shape.blocks.map(() => 1) : shape.blocks,
    );
    const { loaded: blocks, period } = transformer, passes = shape.passes;
    const { ms: outerMs } = await measure(gpu, () => transformer.outer());
    const rest = await measure(gpu, () => transformer.layers(period, noAttention), { least: 2 });
    const restMs = rest.ms / period;
    const makers = [
      () => full(gpu, shape),
      ...which === "veda" || which === "vsa" ? [] : FULL_HEADS.map((share) => () => vorta(gpu, shape, share)),
      ...which === "vorta" || which === "vsa" ? [] : KEEPS.map((keep) => () => veda(gpu, shape, keep)),
      ...which === "vsa" ? [() => vsa(gpu, shape)] : [],
    ];
    const results: Result[] = [];
    const data = (): StepsRun => (
      { ...on, shape: name, clip, grid, layers, blocks, passes, outerMs, results, peak: gpu.memory.peak }
    );
    for (const make of makers) {
      using method = make();
      const result = await timeMethod(gpu, transformer, method, { layers, outerMs, restMs, longest }, results[0]);
      results.push(result);
      saveResult(values, data());
      console.error(`${result.method}: block ${result.blockMs.toFixed(2)} ms, forward ${secondsText(forward(result))}`);
    }
    const all = {
      ...data(),
      ...(which === "all" || which === "vorta") && { shareAtGoal: shareAtGoal(results) ?? null },
    };
    handOver(values, all, report(all));
  });
}

async function timeMethod(
  gpu: Gpu,
  transformer: TimedTransformer,
  { name, density, period, attend, fullHeads, keep }: TimedMethod,
  { layers, outerMs, restMs, longest }: Record<"layers" | "outerMs" | "restMs" | "longest", number>,
  dense: Result | undefined,
): Promise<Result> {
  const count = leastCommonMultiple(period, transformer.period);
  const some = await measure(gpu, () => transformer.layers(count, attend), { least: 2 });
  const blockMs = some.ms / count, fromBlocks = (layers * blockMs + outerMs) / 1000;
  const fits = transformer.loaded === layers && fromBlocks <= longest;
  const pass = fits ? await measure(gpu, () => transformer.forward(attend), { least: 2 }) : undefined;
  const whole = pass && pass.ms / 1000;
  const profile = await profiled(gpu, () => pass ? transformer.forward(attend) : transformer.layers(count, attend));
  const both = dense?.whole !== undefined && whole !== undefined;
  return {
    method: name,
    density,
    ...fullHeads !== undefined && { fullHeads },
    ...keep !== undefined && { keep },
    ...{ blockMs, attentionMs: Math.max(0, blockMs - restMs), restMs },
    ...{ blockSpread: some.spread, blocksTimed: count, fromBlocks },
    ...pass && whole !== undefined && { whole, wholeSpread: pass.spread },
    speedUp: both ? dense.whole / whole : (dense?.fromBlocks ?? fromBlocks) / fromBlocks,
    ...profile && { profile },
  };
}

/** From speed-ups, because a step timed whole and one timed by the block then stand side by side. */
function shareAtGoal(results: readonly Result[]): number | undefined {
  const points = results.flatMap(({ fullHeads, speedUp }) =>
    fullHeads === undefined ? [] : [{ share: fullHeads, time: 1 / speedUp }]
  );
  return shareFor([...points, { share: 1, time: 1 }], 1 / GOAL);
}

/**
 * The share of full heads at which a step takes a given time. Heads cost what their branch costs, so the time grows
 * with the share in a straight line; between measured shares a line is assumed.
 *
 * @param points at least two shares
 * @returns undefined where no share is as fast; 1 where even full attention is
 */
export function shareFor(points: readonly { share: number; time: number }[], time: number): number | undefined {
  const sorted = points.toSorted((a, b) => a.share - b.share), next = sorted.findIndex((point) => point.time > time);
  if (next <= 0) return next === 0 ? undefined : sorted.at(-1)!.share;
  const below = sorted[next - 1]!, above = sorted[next]!;
  return below.share + (above.share - below.share) * (time - below.time) / (above.time - below.time);
}

/** The seconds of a forward pass. */
export function forward({ whole, fromBlocks }: Pick<Result, "whole" | "fromBlocks">): number {
  return whole ?? fromBlocks;
}

function report({ layers, results, shareAtGoal, ...data }: StepsRun): string {
  const { adapter, source, precision, clip, grid, blocks, passes, outerMs, peak } = data;
  const timed = ({ whole, blocksTimed: blocks }: Result) =>
    whole === undefined ? `${blocks === 1 ? "one block" : `mean of ${blocks} blocks`} × ${layers}` : "whole";
  const lines = [
    `${adapter} (${source}, ${precision}): ${clip}, ${grid.join("×")} tokens, ${layers} layers, ${blocks} loaded`,
    tableOf(results, {
      "attention": (r) => r.method,
      "density": (r) => percent(r.density),
      "block, ms": (r) => r.blockMs.toFixed(2),
      "its attention": (r) => r.attentionMs.toFixed(2),
      "the rest": (r) => r.restMs.toFixed(2),
      "spread": (r) => percent(r.wholeSpread ?? r.blockSpread),
      "forward": (r) => secondsText(forward(r)),
      [`step (${passes} forward)`]: (r) => secondsText(passes * forward(r)),
      "timed": timed,
      "speed-up": (r) => `${r.speedUp.toFixed(2)}x`,
      "of a layer": (r) => `${(results[0]!.blockMs / r.blockMs).toFixed(2)}x`,
      "gaps": (r) => r.profile ? percent(r.profile.gaps) : "",
    }),
    `Before and after the blocks: ${outerMs.toFixed(1)} ms. GPU memory at its peak: ${formatBytes(peak)}.`,
  ];
  const micro = (nanoseconds: number) => `${(nanoseconds / 1e3).toFixed(1)} µs`;
  for (const { method, profile } of results) {
    if (!profile) continue;
    const most = profile.kernels.slice(0, LISTED).map(({ kernel, share }) => `${kernel} ${percent(share)}`);
    const gaps = profile.between.slice(0, LISTED_GAPS).map(({ before, after, count, time, longest }) =>
      `${before} to ${after} ${count} × ${micro(time / count)}, at most ${micro(longest)}`
    );
    lines.push(
      `Kernels, ${method}: ${most.join(", ")}.`,
      `${profile.dispatches} dispatches, busy for ${profile.busyMs.toFixed(1)} ms; gaps: ${gaps.join("; ")}.`,
    );
  }
  if (shareAtGoal === null) lines.push(`VORTA is ${GOAL}x as fast as full attention at no share of full heads.`);
  else if (shareAtGoal !== undefined) {
    lines.push(
      `VORTA is ${GOAL}x as fast as full attention if ${percent(shareAtGoal)} of the heads are full. This is ` +
        `interpolated between the measured shares and full attention.`,
    );
  }
  return `\n${lines.join("\n\n")}`;
}
