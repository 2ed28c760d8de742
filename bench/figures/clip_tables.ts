/**
 * Tables of whole clips on Dawn, in Markdown, and what version figures are of. Each is undefined where nothing of it was
 * measured.
 *
 * @module
 */
import { markdownTable, percent, tableOf } from "../table.ts";
import type { Results } from "./measured.ts";
import type { Figure, SectionName } from "./sections.ts";

/** What the page's figures were measured on, and which columns of its first table are of an earlier version. */
export function aboutText(results: Results): string {
  const { adapter, date, commit } = results.about;
  const columns = ([["dawn", "Dawn"], ["deno", "Deno"]] as const).flatMap(([source, name]) => {
    const versions = results.earlier(source, (id) => !ELSEWHERE.test(id));
    return versions.length > 0 ? [` ${name}'s columns are of ${versions.join(", and of ")}.`] : [];
  });
  return `One ${adapter}, ${date}, commit ${commit}.${columns.join("")}`;
}

/** The figures that have a table of their own. */
const ELSEWHERE = /^(hunyuan|14b|demo)\/|^decode\/(hunyuan|14b)$/;

/** A table on Dawn, behind a sentence if it is of an earlier version than the newest figures. */
function dated(results: Results, prefix: string, section: SectionName, table: string): string {
  const versions = results.earlier("dawn", (id) => id.startsWith(prefix));
  if (versions.length === 0) return table;
  return `This table is of an earlier version (${versions.join(", and ")}). ` +
    `\`deno run -A bench/figures.ts --only ${section}\` measures it again.\n\n${table}`;
}

/** Clips of a model in its full size: all steps and decoding. */
export function clipsTable(results: Results, model: "hunyuan" | "14b", heading: string): string | undefined {
  const prefix = `${model}/`, rows = results.figures("dawn", "f16").filter(({ id }) => id.startsWith(prefix));
  const [first] = rows;
  if (!first) return undefined;
  const table = markdownTable([
    [`${heading}, Dawn`, "s", "ratio"],
    ...rows.map(({ id, value }) => [id.slice(prefix.length), value.toFixed(0), (first.value / value).toFixed(2)]),
  ]);
  return dated(results, prefix, model === "14b" ? "clips14" : "hunyuan", table);
}

/** What a step takes beside PyTorch's. */
export function stepText(results: Results): string | undefined {
  const full = results.figure("dawn", "f16", "step/1.3b/full")?.value;
  const sparse = results.figure("dawn", "int8", "step/1.3b/veda 0.1")?.value;
  // A step has two passes, because of guidance.
  const [dense, flex] = ["forward, compiled", "forward, flex 0.1"].map((what) => results.torch("1.3b", what)?.ms)
    .map((ms) => ms && (2 * ms / 1000).toFixed(2));
  if (full === undefined || sparse === undefined || !dense || !flex) return undefined;
  return `${full.toFixed(2)} s, and ${sparse.toFixed(2)} s with Veda in int8; compiled PyTorch takes ${dense} s, and ` +
    `${flex} s with a sparse attention of its own`;
}

/** What clips take that stand for many: one that was rendered, and one that was computed from its blocks. */
export function clipsText(results: Results): string | undefined {
  const fast = results.figure("dawn", "int8", "clip/fastwan")?.value;
  const hunyuan = results.figure("dawn", "f16", "hunyuan/50 steps, VORTA")?.value;
  if (fast === undefined || hunyuan === undefined) return undefined;
  return `${fast.toFixed(1)} s for FastWan in int8, and ${
    (hunyuan / 60).toFixed(0)
  } min for HunyuanVideo with VORTA in f16`;
}

/** The figures of a setting of the demo model, by what they are. */
interface DemoRow {
  readonly setting: string;
  readonly of: ReadonlyMap<string, Figure>;
}

/** Seconds of the demo model's clips, and how much faster sparse attention is than full attention. */
export function demoTimes(results: Results): string | undefined {
  const rows = demoRows(results), [full] = rows;
  if (!full) return undefined;
  const value = ({ of }: DemoRow, what: string) => of.get(what)?.value ?? NaN;
  const whole = (row: DemoRow) => value(row, "denoising") + value(row, "decoding");
  const speed = (of: (row: DemoRow) => number) => (row: DemoRow) =>
    row === full ? "" : `${(of(full) / of(row)).toFixed(2)}×`;
  const table = tableOf(rows, {
    "attention": ({ setting }) => setting,
    "density": ({ of }) => percent(of.get("denoising")?.density ?? NaN),
    "denoising, s": (row) => value(row, "denoising").toFixed(2),
    "speed": speed((row) => value(row, "denoising")),
    "median step, ms": (row) => (1000 * value(row, "step")).toFixed(0),
    "with decoding, s": (row) => whole(row).toFixed(2),
    "its speed": speed(whole),
  });
  return dated(results, "demo/", "demo", table);
}

/** The GPU milliseconds of all steps of these clips, by what kernels do. */
export function demoKernels(results: Results): string | undefined {
  const rows = demoRows(results);
  const ms = ({ of }: DemoRow, group: string) => of.get(`kernels/${group}`)?.value ?? 0;
  const groups = ["dense attention", "attention by a plan", "selection", "products", "the rest"];
  const all = (row: DemoRow) => groups.reduce((sum, group) => sum + ms(row, group), 0);
  if (!rows.some((row) => all(row) > 0)) return undefined;
  return tableOf(rows, {
    "GPU time of a clip's steps, ms": ({ setting }) => setting,
    "dense attention": (row) => ms(row, "dense attention").toFixed(0),
    "by a plan": (row) => ms(row, "attention by a plan").toFixed(0),
    "choosing for it": (row) => ms(row, "selection").toFixed(0),
    "matrix products": (row) => ms(row, "products").toFixed(0),
    "norms and the rest": (row) => ms(row, "the rest").toFixed(0),
    "all": (row) => all(row).toFixed(0),
  });
}

function demoRows(results: Results): DemoRow[] {
  const figures = results.figures("dawn", "f16").filter(({ id }) => id.startsWith("demo/"));
  const bySetting = Map.groupBy(figures, ({ id }) => id.split("/")[1]!);
  return [...bySetting].map(([setting, figures]) => ({
    setting,
    of: new Map(figures.map((figure) => [figure.id.slice(`demo/${setting}/`.length), figure])),
  }));
}
