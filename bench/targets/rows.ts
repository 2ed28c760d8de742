/**
 * The targets beside what was measured.
 *
 * @module
 */
import { product } from "../../model/attention/grid.ts";
import { ofCeiling } from "../ceilings.ts";
import type { Measured, SparseRun, StepsRun } from "./measured.ts";

/** One target. */
export interface Row {
  readonly what: string;
  readonly target: string;
  /** "not measured" where there is nothing. */
  readonly measured: string;
  /** The rate beside the most that the device could do. */
  readonly ceiling?: string;
  /** Absent where it was not measured, or is no target but good to know. */
  readonly pass?: boolean;
}

/** Sources of devices, as they are shown, with their targets. */
const SOURCES = [
  { source: "deno", shown: "native Deno", gemm: 35, dense: 30, veda: 0.9, branches: 0.85 },
  { source: "dawn", shown: "Dawn", gemm: 250, dense: 150, veda: 0.85, branches: 0.8 },
] as const;
type Source = (typeof SOURCES)[number];

/** The products of the feed-forward of Wan 1.3B; the target is the first one's. */
const GEMMS = ["GEMM 32760×1536×8960", "GEMM 32760×8960×1536"];
/** Speed-ups over full attention. */
const VORTA = 1.76, VEDA = 2.64;
/** Shares of full heads, and of tiles kept, that these are asked of. */
const FULL_HEADS = 0.3, KEEP = 0.1;
const GIB = 2 ** 30;
const MOST_GAPS = 0.03;

/** All of them, in the order of the issue. */
export function targetRows(measured: Measured): Row[] {
  return [
    ...SOURCES.flatMap((source) => gemm(measured, source)),
    ...SOURCES.flatMap((source) => attention(measured, source)),
    ...SOURCES.flatMap((source) => steps(measured, source)),
    ...torch(measured),
    ...SOURCES.flatMap((source) => memory(measured, source)),
    parity(measured),
  ];
}

function gemm({ kernels }: Measured, { source, shown, gemm }: Source): Row[] {
  const all = kernels.filter((run) => run.source === source).flatMap(({ adapter, results }) =>
    results.map((result) => ({ adapter, ...result, tflops: result.gflopsPerSecond / 1000 }))
  );
  return GEMMS.map((name, i) => {
    const best = all.filter((result) => result.case === name).sort((a, b) => b.tflops - a.tflops)[0];
    const what = `${name}, ${shown}`, target = i === 0 ? `≥ ${gemm} TFLOP/s` : "";
    return best === undefined ? missing(what, target) : {
      what: `${what} (${best.kernels})`,
      target,
      measured: `${best.tflops.toFixed(1)} TFLOP/s`,
      ceiling: ofCeiling(best.adapter, best.tflops, best.kernels.startsWith("matrix")),
      ...i === 0 && { pass: best.tflops >= gemm },
    };
  });
}

/** At the precision at which dense attention is fastest: efficiency at another would flatter. */
function attention({ sparse }: Measured, source: Source): Row[] {
  const runs = sparse.filter((run) =>
    run.source === source.source && run.shape === "1.3b" && denseMs(run) !== undefined
  );
  const run = runs.sort((a, b) => denseMs(a)! - denseMs(b)!)[0];
  const rows = [
    { kind: `veda ${KEEP}`, what: `efficiency at keep ${KEEP}`, least: source.veda },
    { kind: "coreset", what: "efficiency, core-set", least: source.branches },
    { kind: "sliding", what: "efficiency, sliding tile", least: source.branches },
  ];
  const names = `${source.shown}${run ? ` (${run.precision})` : ""}`;
  return [
    denseRow(run, source, names),
    ...rows.map(({ kind, what, least }) => {
      const found = run?.results.find((result) => result.kind === kind)?.efficiency;
      const target = `≥ ${least}`;
      return found === undefined
        ? missing(`${what}, ${names}`, target)
        : { what: `${what}, ${names}`, target, measured: found.toFixed(2), pass: found >= least };
    }),
  ];
}

function denseRow(run: SparseRun | undefined, { dense: least }: Source, names: string): Row {
  const what = `dense attention, ${names}`, target = `≥ ${least} TFLOP/s`;
  if (!run) return missing(what, target);
  const { adapter, heads, headDim, grid, precision, source } = run;
  const tflops = 4 * heads * headDim * product(grid) ** 2 / denseMs(run)! / 1e9;
  const matrix = source === "dawn" && precision === "f16";
  return {
    what,
    target,
    measured: `${tflops.toFixed(1)} TFLOP/s`,
    ceiling: ofCeiling(adapter, tflops, matrix),
    pass: tflops >= least,
  };
}

function denseMs({ results }: SparseRun): number | undefined {
  return results.find(({ kind }) => kind === "dense")?.ms;
}

const SHAPES = [{ shape: "1.3b", model: "1.3B 480p" }, { shape: "14b", model: "14B 720p" }] as const;

function steps(measured: Measured, { source, shown }: Source): Row[] {
  return SHAPES.flatMap(({ shape, model }) => {
    const run = fastestSteps(measured, source, shape), full = run?.results[0];
    const names = `${model}, ${shown}${run ? ` (${run.precision})` : ""}`;
    const vorta = run?.results.find(({ fullHeads }) => near(fullHeads, FULL_HEADS));
    const veda = run?.results.find(({ keep }) => keep === KEEP);
    const rows: Row[] = [];
    const what = `step, full attention, ${names}`;
    rows.push(full ? { what, target: "", measured: seconds(2 * forward(full)) } : missing(what, ""));
    const speedUp = `VORTA with ${100 * FULL_HEADS} % full heads, ${names}`;
    rows.push(
      vorta
        ? {
          what: speedUp,
          target: `≥ ${VORTA}x`,
          measured: `${vorta.speedUp.toFixed(2)}x, ${seconds(2 * forward(vorta))} a step`,
          pass: vorta.speedUp >= VORTA,
        }
        : missing(speedUp, `≥ ${VORTA}x`),
    );
    if (run?.shareAtGoal !== undefined) {
      const measured = run.shareAtGoal === null ? "at none" : `${(100 * run.shareAtGoal).toFixed(0)} %`;
      rows.push({ what: `share of full heads at ${VORTA}x, ${names}`, target: "", measured });
    }
    const layer = `Veda at keep ${KEEP}, whole layer, ${names}`, target = shape === "14b" ? `≥ ${VEDA}x` : "";
    const ratio = full && veda ? full.blockMs / veda.blockMs : undefined;
    rows.push(
      ratio === undefined ? missing(layer, target) : {
        what: layer,
        target,
        measured: `${ratio.toFixed(2)}x, ${seconds(2 * forward(veda!))} a step`,
        ...target !== "" && { pass: ratio >= VEDA },
      },
    );
    if (shape === "1.3b") rows.push(gaps(run, names));
    return rows;
  });
}

/** Of the kind of attention that has most. */
function gaps(run: StepsRun | undefined, names: string): Row {
  const what = `gaps between kernels, ${names}`, target = `≤ ${100 * MOST_GAPS} %`;
  const shares = run?.results.flatMap(({ method, profile }) => profile ? [{ method, share: profile.gaps }] : []);
  const most = shares?.sort((a, b) => b.share - a.share)[0];
  return most === undefined
    ? missing(what, target)
    : { what, target, measured: `${(100 * most.share).toFixed(1)} % (${most.method})`, pass: most.share <= MOST_GAPS };
}

/** Veda's step on Dawn beside PyTorch's dense one. */
function torch(measured: Measured): Row[] {
  return SHAPES.map(({ shape, model }) => {
    const what = `Veda at keep ${KEEP} on Dawn, PyTorch dense, ${model}`, target = "faster";
    const forwards = measured.torch.flatMap(({ results }) => results)
      .filter((row) => row.shape === shape && row.what.startsWith("forward") && row.ms !== undefined);
    const best = forwards.sort((a, b) => a.ms! - b.ms!)[0];
    const veda = fastestSteps(measured, "dawn", shape)?.results.find(({ keep }) => keep === KEEP);
    if (!best && !veda) return missing(what, target);
    const ours = veda && 2 * forward(veda), theirs = best && 2 * best.ms! / 1000;
    const shown = (time: number | undefined) => time === undefined ? "not measured" : seconds(time);
    return {
      what,
      target,
      measured: `${shown(ours)}, ${shown(theirs)} a step${best ? ` (${best.what})` : ""}`,
      ...ours !== undefined && theirs !== undefined && { pass: ours < theirs },
    };
  });
}

function memory({ memory, stream, resident }: Measured, { source, shown }: Source): Row[] {
  const row = (what: string, limit: number, run: Measured["memory"][number] | undefined): Row => {
    const target = `≤ ${limit} GB`;
    if (!run) return missing(what, target);
    return {
      what: `${what} (${run.precision}, ${run.clip}${run.layers < 30 ? `, ${run.layers} blocks` : ""})`,
      target,
      measured: `${(run.peak / GIB).toFixed(2)} GiB`,
      pass: run.peak <= limit * 1e9,
    };
  };
  const of = (runs: Measured["memory"]) => runs.find((run) => run.source === source);
  const streamed = of(stream), kept = of(resident);
  return [
    row(`peak memory, 1.3B, ${shown}`, 8, of(memory)),
    row(`peak memory, 14B streamed, ${shown}`, 24, streamed),
    ...streamed && kept
      ? [{
        what: `last step of ${kept.layers} blocks of 14B, streamed and resident, ${shown}`,
        target: "",
        measured: `${seconds(streamed.stepSeconds.at(-1)!)}, ${seconds(kept.stepSeconds.at(-1)!)}`,
      }]
      : [],
  ];
}

function parity({ jobs }: Measured): Row {
  const runs = jobs.filter(({ name }) => name.startsWith("parity-"));
  if (runs.length === 0) return missing("parity", "all pass");
  return {
    what: "parity",
    target: "all pass",
    measured: runs.map(({ name, status }) => `${name.slice("parity-".length)}: ${status === "0" ? "all" : "not all"}`)
      .join(", "),
    pass: runs.every(({ status }) => status === "0"),
  };
}

/** The run of the precision at which full attention is fastest. */
function fastestSteps({ steps }: Measured, source: string, shape: string): StepsRun | undefined {
  return steps.filter((run) => run.source === source && run.shape === shape && run.results.length > 0)
    .sort((a, b) => forward(a.results[0]!) - forward(b.results[0]!))[0];
}

function forward({ whole, fromBlocks }: StepsRun["results"][number]): number {
  return whole ?? fromBlocks;
}

function near(a: number | undefined, b: number): boolean {
  return a !== undefined && Math.abs(a - b) < 0.02;
}

function missing(what: string, target: string): Row {
  return { what, target, measured: "not measured" };
}

function seconds(time: number): string {
  return time < 1 ? `${(1000 * time).toFixed(0)} ms` : `${time.toFixed(2)} s`;
}
