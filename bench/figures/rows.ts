import { markdownTable } from "../table.ts";
import type { Precision, Results, Source, TorchResult } from "./measured.ts";
import type { Figure } from "./sections.ts";

/** A goal for one column: at least or at most a value. */
interface Goal {
  readonly least?: number;
  readonly most?: number;
}

/** The columns of ours. */
const COLUMNS = [
  { key: "dawn f16", heading: "Dawn, f16", source: "dawn", precision: "f16" },
  { key: "dawn int8", heading: "Dawn, int8", source: "dawn", precision: "int8" },
  { key: "deno f16", heading: "Deno, f16", source: "deno", precision: "f16" },
  { key: "deno int8", heading: "Deno, int8", source: "deno", precision: "int8" },
] as const satisfies readonly { key: string; heading: string; source: Source; precision: Precision }[];

type Column = typeof COLUMNS[number]["key"];

/** A row of the table of figures. */
export interface Row {
  readonly what: string;
  /** The name of the figure. */
  readonly id: string;
  /** A number computed from it and others, if it is not its value. */
  readonly value?: (of: (id: string) => Figure | undefined) => number | undefined;
  readonly decimals: number;
  readonly goals?: Partial<Record<Column, Goal>>;
  /** Whether a figure was measured as the goal means it. Default: yes. */
  readonly isComparable?: (figure: Figure | undefined) => boolean;
  /** The name of PyTorch's result, and what of it is shown. */
  readonly torch?: { readonly shape: string; readonly what: string; readonly tokens?: number };
  readonly torchValue?: (result: TorchResult) => number | undefined;
  /** What limits it; may be computed. */
  readonly limit: string | ((results: Results) => string);
}

const rate = ({ tflops }: TorchResult) => tflops;
/** A step has two passes, because of guidance. */
const stepOf = ({ ms }: TorchResult) => ms && 2 * ms / 1000;

/** Names a step's part outside attention, which sparse attention does not change. */
const outside = (name: string) => (results: Results) => {
  const of = (source: Source) => results.figure(source, "f16", `step/${name}/no attention`)?.value;
  const shown = (["dawn", "deno"] as const).flatMap((source) => {
    const seconds = of(source);
    return seconds === undefined ? [] : [`${significant(seconds)} s on ${source === "dawn" ? "Dawn" : "Deno"}`];
  });
  return shown.length === 0 ? "" : `outside attention, f16: ${shown.join(", ")}`;
};

const ratio = (above: string, below: string): NonNullable<Row["value"]> => (of) => {
  const [a, b] = [of(above)?.value, of(below)?.value];
  return a !== undefined && b !== undefined ? a / b : undefined;
};

/** The share of a layer's time that its attention takes, in percent. */
const attentionShare = (layer: string): NonNullable<Row["value"]> => (of) => {
  const [all, rest] = [of(layer)?.value, of(`${layer}/rest`)?.value];
  return all !== undefined && rest !== undefined ? 100 * (1 - rest / all) : undefined;
};

/** Every row of the table, in order. Goals are those of the project's issues 17 and 18. */
export const ROWS: readonly Row[] = [
  {
    what: "GEMM 32760×1536×8960, T(FL)OP/s",
    ...{ id: "gemm/narrow", decimals: 0 },
    goals: { "dawn f16": { least: 430 }, "dawn int8": { least: 800 }, "deno int8": { least: 95 } },
    ...{ torch: { shape: "1.3b", what: "GEMM 32760x1536x8960" }, torchValue: rate },
    limit: "staging and barriers; without them, matrix units reach 630 and 1268, threads on Deno 57 and 72",
  },
  {
    what: "GEMM 32760×8960×1536, T(FL)OP/s",
    ...{ id: "gemm/wide", decimals: 0 },
    ...{ torch: { shape: "1.3b", what: "GEMM 32760x8960x1536" }, torchValue: rate },
    limit: "the same",
  },
  {
    what: "dense attention, 32,760 tokens, TFLOP/s",
    ...{ id: "attention/32760/dense rate", decimals: 0 },
    goals: { "dawn f16": { least: 240 }, "dawn int8": { least: 320 } },
    ...{ torch: { shape: "tokens", what: "attention, SDPA", tokens: 32760 }, torchValue: rate },
    limit: "staging of keys and values, then scores and softmax",
  },
  {
    what: "Veda at keep 0.1, 75,600 tokens, TFLOP/s of what is kept",
    ...{ id: "attention/75600/veda 0.1 rate", decimals: 0 },
    goals: { "dawn f16": { least: 320 }, "dawn int8": { least: 320 } },
    ...{ torch: { shape: "tokens", what: "attention, flex 0.1", tokens: 75600 }, torchValue: rate },
    limit: "the dense kernel",
  },
  {
    what: "its efficiency, 32,760 tokens",
    ...{ id: "attention/32760/veda 0.1 efficiency", decimals: 2 },
    goals: { "dawn f16": { least: .85 }, "dawn int8": { least: .85 }, "deno f16": { least: .9 } },
    limit: "selection of tiles; partial tiles",
  },
  {
    what: "its efficiency, 75,600 tokens",
    ...{ id: "attention/75600/veda 0.1 efficiency", decimals: 2 },
    goals: { "dawn f16": { least: .92 }, "dawn int8": { least: .92 }, "deno f16": { least: .9 } },
    limit: "the same",
  },
  {
    what: "a step of 1.3B 480p×81, full attention, s",
    ...{ id: "step/1.3b/full", decimals: 2 },
    goals: { "deno f16": { most: 9 }, "deno int8": { most: 9 } },
    ...{ torch: { shape: "1.3b", what: "forward, compiled" }, torchValue: stepOf },
    limit: outside("1.3b"),
  },
  {
    what: "…, VORTA with 30 % of heads full, s",
    ...{ id: "step/1.3b/vorta 0.3", decimals: 2 },
    limit: "the same",
  },
  {
    what: "…, speed-up of VORTA",
    ...{ id: "step/1.3b/vorta 0.3", value: ratio("step/1.3b/full", "step/1.3b/vorta 0.3"), decimals: 2 },
    goals: { "dawn f16": { least: 1.76 }, "dawn int8": { least: 1.76 }, "deno f16": { least: 1.76 } },
    limit: "the same",
  },
  {
    what: "…, Veda at keep 0.1, s",
    ...{ id: "step/1.3b/veda 0.1", decimals: 3 },
    goals: {
      ...{ "dawn f16": { most: .5 }, "dawn int8": { most: .5 } },
      ...{ "deno f16": { most: 2.4 }, "deno int8": { most: 2.4 } },
    },
    ...{ torch: { shape: "1.3b", what: "forward, flex 0.1" }, torchValue: stepOf },
    limit: "the same",
  },
  {
    what: "a step of 14B 720p×81, full attention, s",
    ...{ id: "step/14b/full", decimals: 1 },
    ...{ torch: { shape: "14b", what: "forward, compiled" }, torchValue: stepOf },
    limit: outside("14b"),
  },
  {
    what: "…, VORTA with 30 % of heads full, s",
    ...{ id: "step/14b/vorta 0.3", decimals: 1 },
    limit: "the same",
  },
  {
    what: "…, speed-up of VORTA",
    ...{ id: "step/14b/vorta 0.3", value: ratio("step/14b/full", "step/14b/vorta 0.3"), decimals: 2 },
    goals: { "dawn f16": { least: 1.76 }, "dawn int8": { least: 1.76 }, "deno f16": { least: 1.76 } },
    limit: "the same",
  },
  {
    what: "…, Veda at keep 0.1, s",
    ...{ id: "step/14b/veda 0.1", decimals: 2 },
    goals: { "dawn f16": { most: 8.5 }, "dawn int8": { most: 8.5 } },
    ...{ torch: { shape: "14b", what: "forward, flex 0.1" }, torchValue: stepOf },
    limit: "the same",
  },
  {
    what: "a layer of Waver's shape, full attention, ms",
    ...{ id: "waver/full", decimals: 0 },
    limit: ({ stored }) => noteOf(stored.runs.flatMap(({ figures }) => figures), "waver/full"),
  },
  {
    what: "…, its attention's share, %",
    ...{ id: "waver/full", value: attentionShare("waver/full"), decimals: 0 },
    limit: "the same",
  },
  {
    what: "…, Veda at keep 0.05, ms",
    ...{ id: "waver/veda 0.05", decimals: 0 },
    goals: { "dawn f16": { most: 309 }, "dawn int8": { most: 309 } },
    isComparable: (figure) => figure?.note?.includes("269 frames") ?? false,
    limit: "the paper reports 309 ms for 269 frames",
  },
  {
    what: "…, its attention's share, %",
    ...{ id: "waver/veda 0.05", value: attentionShare("waver/veda 0.05"), decimals: 0 },
    limit: "the same",
  },
  {
    what: "a forward pass of 56 such layers, full attention, s",
    ...{ id: "waver/full/pass", decimals: 1 },
    limit: "the same",
  },
  {
    what: "…, Veda at keep 0.05, s",
    ...{ id: "waver/veda 0.05/pass", decimals: 1 },
    limit: "the paper's speed-up is 5.1",
  },
  {
    what: "decoding 81 frames of 832×480, s",
    ...{ id: "decode/480p", decimals: 1 },
    goals: { "dawn f16": { most: 2 }, "deno f16": { most: 5 } },
    limit: "convolutions",
  },
  {
    what: "a clip of FastWan 1.3B, 3 steps, s",
    ...{ id: "clip/fastwan", decimals: 1 },
    goals: { "dawn f16": { most: 6 }, "dawn int8": { most: 6 } },
    limit: "decoding, and what is outside attention",
  },
  {
    what: "its peak of GPU memory, GB",
    ...{ id: "memory/fastwan", value: (of) => scaled(of("memory/fastwan")?.value, 1e-9), decimals: 2 },
    goals: { "dawn f16": { most: 8 }, "deno f16": { most: 8 } },
    limit: "weights and decoding",
  },
  {
    what: "first use: kernels of a block of 1.3B, s",
    ...{ id: "first use/1.3b", decimals: 1 },
    limit: "the driver's compiler; it keeps what it compiled",
  },
  {
    what: "`tilereel tune`, s (nothing waits for it)",
    ...{ id: "tune", decimals: 1 },
    goals: { "dawn f16": { most: 15 }, "deno f16": { most: 15 } },
    limit: "the driver's compiler",
  },
];

const scaled = (value: number | undefined, factor: number) => value === undefined ? undefined : value * factor;
const noteOf = (figures: readonly Figure[], id: string) => figures.find((figure) => figure.id === id)?.note ?? "";

/** The table of figures in Markdown. Where a figure reaches its goal, it is bold. Rows without figures are left out. */
export function figuresTable(results: Results): string {
  const body = ROWS.flatMap((row) => {
    const cells = COLUMNS.map(({ key, source, precision }) => {
      const of = (id: string) => results.figure(source, precision, id);
      const value = row.value ? row.value(of) : of(row.id)?.value, goal = row.goals?.[key];
      if (value === undefined) return "";
      const shown = value.toFixed(row.decimals), { least = -Infinity, most = Infinity } = goal ?? {};
      return goal && (row.isComparable?.(of(row.id)) ?? true) && value >= least && value <= most
        ? `**${shown}**`
        : shown;
    });
    const { torch } = row, theirs = torch && results.torch(torch.shape, torch.what, torch.tokens);
    const value = theirs && row.torchValue?.(theirs);
    if (cells.every((cell) => cell === "") && value === undefined) return [];
    const limit = typeof row.limit === "string" ? row.limit : row.limit(results);
    return [[row.what, goalText(row), ...cells, value === undefined ? "" : value.toFixed(row.decimals), limit]];
  });
  return markdownTable([
    ["what", "goal", ...COLUMNS.map(({ heading }) => heading), "PyTorch, bf16", "limited by"],
    ...body,
  ]);
}

/** The goals of a row as a text, such as "≥ 430 / 800, Deno ≥ – / 95". */
function goalText({ goals = {} }: Row): string {
  const of = (source: Source) => {
    const [f16, int8] = [goals[`${source} f16`], goals[`${source} int8`]];
    const value = (goal: Goal | undefined) => goal?.least ?? goal?.most, sign = (f16 ?? int8)?.least ? "≥" : "≤";
    if (!f16 && !int8) return [];
    const same = value(f16) === value(int8) || !int8;
    return [
      `${source === "deno" ? "Deno " : ""}${sign} ${same ? value(f16) : `${value(f16) ?? "–"} / ${value(int8)}`}`,
    ];
  };
  return [...of("dawn"), ...of("deno")].join(", ");
}

/** A number with three significant digits. */
function significant(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
