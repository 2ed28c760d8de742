import { product } from "../../model/attention/grid.ts";
import { type ClipRow, secondsOf } from "../headline.ts";
import { forward, type StepsRun } from "../steps.ts";
import type { SparseRun } from "../sparse.ts";
import { gib, ofCeiling, percent, secondsText as seconds } from "../table.ts";
import type { Measured } from "./measured.ts";

/** One target of the project, with its measurement. */
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

/** The sources of devices with their targets. */
const SOURCES = [
  { source: "deno", shown: "native Deno", gemm: 35, dense: 30, veda: 0.9, branches: 0.85 },
  { source: "dawn", shown: "Dawn", gemm: 250, dense: 150, veda: 0.85, branches: 0.8 },
] as const;
type Source = (typeof SOURCES)[number];

/** The products of the feed-forward of Wan 1.3B. The target is for the first one. */
const GEMMS = ["GEMM 32760×1536×8960", "GEMM 32760×8960×1536"];
/** The least speed-ups over full attention. */
const VORTA = 1.76, VEDA = 2.64;
/** The shares of full heads and of kept tiles at which these are expected. */
const FULL_HEADS = 0.3, KEEP = 0.1;
const MOST_GAPS = 0.03;

/** All targets. */
export function targetRows(measured: Measured): Row[] {
  return [
    ...SOURCES.flatMap((source) => gemm(measured, source)),
    ...SOURCES.flatMap((source) => attention(measured, source)),
    ...SOURCES.flatMap((source) => steps(measured, source)),
    ...torch(measured),
    ...SOURCES.flatMap((source) => headline(measured, source)),
    ...SOURCES.flatMap((source) => memory(measured, source)),
    parity(measured),
  ];
}

/** A row of a measured value, or of none. */
function row<T>(
  what: string,
  target: string,
  value: T | undefined,
  show: (value: T) => string,
  passes?: (value: T) => boolean,
): Row {
  if (value === undefined) return { what, target, measured: "not measured" };
  return { what, target, measured: show(value), ...passes && { pass: passes(value) } };
}

function gemm({ kernels }: Measured, { source, shown, gemm }: Source): Row[] {
  const all = kernels.filter((run) => run.source === source).flatMap(({ adapter, results }) =>
    results.map((result) => ({ adapter, ...result, tflops: result.gflopsPerSecond / 1000 }))
  );
  return GEMMS.map((name, i) => {
    const best = all.filter((result) => result.case === name).sort((a, b) => b.tflops - a.tflops)[0];
    const what = `${name}, ${shown}${best ? ` (${best.kernels})` : ""}`, isTarget = i === 0;
    return {
      ...rate(what, isTarget ? gemm : undefined, best?.tflops),
      ...best && { ceiling: ofCeiling(best.adapter, best.tflops, best.kernels.startsWith("matrix")) },
    };
  });
}

/** A row of a rate; `least` is its target. */
function rate(what: string, least: number | undefined, tflops: number | undefined): Row {
  const target = least === undefined ? "" : `≥ ${least} TFLOP/s`;
  return row(
    what,
    target,
    tflops,
    (n) => `${n.toFixed(1)} TFLOP/s`,
    least === undefined ? undefined : (n) => n >= least,
  );
}

/** At the precision at which dense attention is fastest, because efficiency at another would flatter. */
function attention({ sparse }: Measured, { source, shown, dense, veda, branches }: Source): Row[] {
  const msOf = ({ results }: SparseRun) => results.find(({ kind }) => kind === "dense")?.ms;
  const run = sparse.filter((run) => run.source === source && run.shape === "1.3b" && msOf(run) !== undefined)
    .sort((a, b) => msOf(a)! - msOf(b)!)[0];
  const names = `${shown}${run ? ` (${run.precision})` : ""}`, denseWhat = `dense attention, ${names}`;
  const efficiency = (kind: string, what: string, least: number) =>
    row(
      `${what}, ${names}`,
      `≥ ${least}`,
      run?.results.find((result) => result.kind === kind)?.efficiency,
      (found) => found.toFixed(2),
      (found) => found >= least,
    );
  const tflops = run && 4 * run.heads * run.headDim * product(run.grid) ** 2 / msOf(run)! / 1e9;
  return [
    {
      ...rate(denseWhat, dense, tflops),
      ...run && { ceiling: ofCeiling(run.adapter, tflops!, source === "dawn" && run.precision === "f16") },
    },
    efficiency(`veda ${KEEP}`, `efficiency at keep ${KEEP}`, veda),
    efficiency("coreset", "efficiency, core-set", branches),
    efficiency("sliding", "efficiency, sliding tile", branches),
  ];
}

const SHAPES = [{ shape: "1.3b", model: "1.3B 480p" }, { shape: "14b", model: "14B 720p" }] as const;

function steps(measured: Measured, { source, shown }: Source): Row[] {
  return SHAPES.flatMap(({ shape, model }) => {
    const run = fastestSteps(measured, source, shape), full = run?.results[0], share = run?.shareAtGoal;
    const names = `${model}, ${shown}${run ? ` (${run.precision})` : ""}`;
    const vorta = run?.results.find(({ fullHeads = Infinity }) => Math.abs(fullHeads - FULL_HEADS) < 0.02);
    const veda = run?.results.find(({ keep }) => keep === KEEP);
    const layer = full && veda && { veda, ratio: full.blockMs / veda.blockMs };
    return [
      row(`step, full attention, ${names}`, "", full, (full) => seconds(2 * forward(full))),
      row(
        `VORTA with ${100 * FULL_HEADS} % full heads, ${names}`,
        `≥ ${VORTA}x`,
        vorta,
        (vorta) => `${vorta.speedUp.toFixed(2)}x, ${seconds(2 * forward(vorta))} a step`,
        (vorta) => vorta.speedUp >= VORTA,
      ),
      ...share === undefined ? [] : [
        row(
          `share of full heads at ${VORTA}x, ${names}`,
          "",
          share,
          () => share === null ? "at none" : `${(100 * share).toFixed(0)} %`,
        ),
      ],
      row(
        `Veda at keep ${KEEP}, whole layer, ${names}`,
        shape === "14b" ? `≥ ${VEDA}x` : "",
        layer,
        ({ veda, ratio }) => `${ratio.toFixed(2)}x, ${seconds(2 * forward(veda))} a step`,
        shape === "14b" ? ({ ratio }) => ratio >= VEDA : undefined,
      ),
      ...shape === "1.3b" ? [gaps(run, names)] : [],
    ];
  });
}

/** The gaps of the kind of attention that has most. */
function gaps(run: StepsRun | undefined, names: string): Row {
  const shares = run?.results.flatMap(({ method, profile }) => profile ? [{ method, share: profile.gaps }] : []);
  return row(
    `gaps between kernels, ${names}`,
    `≤ ${100 * MOST_GAPS} %`,
    shares?.sort((a, b) => b.share - a.share)[0],
    ({ method, share }) => `${percent(share)} (${method})`,
    ({ share }) => share <= MOST_GAPS,
  );
}

/** Veda's step on Dawn beside PyTorch's dense one. */
function torch(measured: Measured): Row[] {
  return SHAPES.map(({ shape, model }) => {
    const best = measured.torch.flatMap(({ results }) => results)
      .filter((row) => row.shape === shape && row.what.startsWith("forward") && row.ms !== undefined)
      .sort((a, b) => a.ms! - b.ms!)[0];
    const veda = fastestSteps(measured, "dawn", shape)?.results.find(({ keep }) => keep === KEEP);
    const ours = veda && 2 * forward(veda), theirs = best && 2 * best.ms! / 1000;
    const shown = (time: number | undefined) => time === undefined ? "not measured" : seconds(time);
    return row(
      `Veda at keep ${KEEP} on Dawn, PyTorch dense, ${model}`,
      "faster",
      ours ?? theirs,
      () => `${shown(ours)}, ${shown(theirs)} a step${best ? ` (${best.what})` : ""}`,
      ours !== undefined && theirs !== undefined ? () => ours < theirs : undefined,
    );
  });
}

/** The least ratios of whole clips of HunyuanVideo to the first, and of a forward pass of Waver. */
const HEADLINE = { "50 steps, VORTA": VORTA, "6 steps, VORTA, PAB": 14.41 }, WAVER = 5.1;
/** The most seconds of a clip of FastWan 1.3B on Dawn. */
const FASTWAN = 6;

function headline({ headline }: Measured, { source, shown }: Source): Row[] {
  const runs = headline.filter((run) => run.source === source), rows = runs.flatMap(({ rows }) => rows);
  const ofHunyuan = (clip: string) => rows.find((row) => row.model === "hunyuan" && row.clip === clip);
  const first = ofHunyuan("50 steps"), fastWan = rows.find(({ model, steps }) => model === "1.3b" && steps === 3);
  const layers = runs.flatMap(({ layers }) => layers), [dense, sparse] = layers;
  const times = (ratio: number) => `${ratio.toFixed(2)}x`;
  const ratio = (row: ClipRow | undefined) => row && first && secondsOf(first) / secondsOf(row);
  return [
    ...Object.entries(HEADLINE).map(([clip, least]) =>
      row(`HunyuanVideo, ${clip}, ${shown}`, `≥ ${least}x`, ratio(ofHunyuan(clip)), times, (found) => found >= least)
    ),
    row(
      `FastWan 1.3B, ${fastWan?.clip ?? "3 steps"}, ${shown}`,
      source === "dawn" ? `≤ ${FASTWAN} s` : "",
      fastWan && secondsOf(fastWan),
      seconds,
      source === "dawn" ? (found) => found <= FASTWAN : undefined,
    ),
    row(
      `${runs.find(({ layersOf }) => layersOf)?.layersOf ?? "Waver"}, Veda at keep 0.05, ${shown}`,
      `≥ ${WAVER}x`,
      dense && sparse && dense.passMs / sparse.passMs,
      times,
      (found) => found >= WAVER,
    ),
  ];
}

function memory({ memory, stream, resident }: Measured, { source, shown }: Source): Row[] {
  const [one, streamed, kept] = [memory, stream, resident].map((runs) => runs.find((run) => run.source === source));
  const peak = (what: string, limit: number, run: typeof one) => {
    const blocks = run && run.layers < 30 ? `, ${run.layers} blocks` : "";
    return row(
      run ? `${what} (${run.precision}, ${run.clip}${blocks})` : what,
      `≤ ${limit} GB`,
      run?.peak,
      gib,
      (peak) => peak <= limit * 1e9,
    );
  };
  return [
    peak(`peak memory, 1.3B, ${shown}`, 8, one),
    peak(`peak memory, 14B streamed, ${shown}`, 24, streamed),
    ...streamed && kept
      ? [row(
        `last step of ${kept.layers} blocks of 14B, streamed and resident, ${shown}`,
        "",
        [streamed, kept],
        (runs) => runs.map(({ stepSeconds }) => seconds(stepSeconds.at(-1)!)).join(", "),
      )]
      : [],
  ];
}

function parity({ jobs }: Measured): Row {
  const runs = jobs.filter(({ name }) => name.startsWith("parity-"));
  const shown = () =>
    runs.map(({ name, status }) => `${name.slice("parity-".length)}: ${status === "0" ? "all" : "not all"}`).join(", ");
  return row("parity", "all pass", runs[0], shown, () => runs.every(({ status }) => status === "0"));
}

/** The run at the precision at which full attention is fastest. */
function fastestSteps({ steps }: Measured, source: string, shape: string): StepsRun | undefined {
  return steps.filter((run) => run.source === source && run.shape === shape && run.results.length > 0)
    .sort((a, b) => forward(a.results[0]!) - forward(b.results[0]!))[0];
}
