/**
 * `deno task quality DIR...`: writes the tables of docs/quality.md from what `tools/gpu_machine/quality.sh` measured.
 *
 * @module
 */
import { basename, join } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";
import { runAsProgram } from "../../tools/program/run_command.ts";
import { slug } from "../../tools/program/clip/slug.ts";
import { studySettings } from "../../tools/program/clip/study.ts";
import { withParts } from "../doc_parts.ts";
import { mean, tableOf } from "../table.ts";
import type { ClipFigures } from "./clip_figures.ts";
import { type Judged, judgedScore, type Marks } from "./judged.ts";
import { completePrompts, merged, type QualityRun, readRun, type SettingResult } from "./results.ts";

const ROOT = join(import.meta.dirname!, "../..");
const DOCUMENT = "docs/quality.md";

/** What the name of a folder begins with that has results of other prompts at the largest size, as a table of its own. */
const VALIDATION = "validation";

/** The judge's scores that count in "all six". */
const SCORES = ["color", "shape", "motion", "background", "count", "both"];

/** What was measured at one size. */
export interface Measured {
  readonly run: QualityRun;
  readonly judged: Judged;
  /** Clips that were rendered alone, for their seconds. */
  readonly times: QualityRun;
  /** What bench:veda measured. */
  readonly recall?: readonly Recall[];
}

/** How well scores select tiles, as bench:veda says it. */
interface Recall {
  readonly picker: string;
  readonly keep: number;
  readonly recallMax: number;
  readonly recallSum: number;
  readonly kept: number;
  readonly error: number;
}

/** A setting, over the prompts that every setting of a table has. */
interface Row {
  readonly size: string;
  /** What the setting is called in the files. */
  readonly setting: string;
  readonly clips: readonly ClipFigures[];
  readonly marks: Readonly<Record<string, Marks>>;
  readonly full: Readonly<Record<string, Marks>>;
  readonly seconds?: ClipFigures["seconds"] | undefined;
  readonly fullSeconds?: ClipFigures["seconds"] | undefined;
}

type Column = (row: Row) => string;

/** The tables by their names. Of each: the sizes, the settings as far as they were measured, and the columns. */
const TABLES: Readonly<Record<string, (measured: Readonly<Record<string, Measured>>) => string>> = {
  "study, figures": (all) =>
    table(studyRows(all), {
      "attention": setting,
      "density": density(1),
      ...all["512"]?.times.results.length && {
        "denoising, s": ({ seconds }: Row) => seconds?.denoise.toFixed(2) ?? "",
        "speed": speed,
        "with decoding, s": ({ seconds }: Row) => seconds ? (seconds.denoise + seconds.decode).toFixed(2) : "",
      },
      ...likeness,
      "churn": (row) => {
        const text = over(row, ({ churn }) => churn, 5);
        return text && `${(100 * Number(text)).toFixed(1)} %`;
      },
    }),
  "study, scores": (all) =>
    table(studyRows(all), {
      "attention": setting,
      ...scores,
      "not twice": share("once"),
      "stays itself": share("same"),
    }),
  "validation": (all) => validationTable(all, VALIDATION),
  "validation, later": (all) => validationTable(all, `${VALIDATION}-later`),
  "int8": (all) =>
    table(
      ["128", "256", "512"].flatMap((size) => {
        // What a setting is called has no "=".
        const called = (name: string) => name.replaceAll("=", " ");
        const settings = new Set(all[size]?.run.results.map(({ setting }) => called(setting)));
        return rowsOf(all, [size], (name) => settings.has(called(`${name}, int8`)) || name.endsWith(", int8"));
      }),
      {
        ...{ "size": size, "attention": setting },
        ...likeness,
        "smallest PSNR": ({ clips }) => {
          const all = clips.map(({ psnr }) => psnr).filter((x) => typeof x === "number");
          return all.length === 0 ? "" : Math.min(...all).toFixed(1);
        },
        ...scores,
      },
    ),
  "256": (all) =>
    table(rowsOf(all, ["256"], (name) => /^(full|vorta|veda keep=0.\d+|both|random routes)$/.test(name)), {
      ...{ "attention": setting, "density": density(1) },
      ...likeness,
      ...scores,
    }),
  "few steps": (all) =>
    table(rowsOf(all, ["128", "256"], (name) => /^(full|few( vorta| veda| pab)?)$/.test(name)), {
      ...{ "size": size, "sampling": setting, "density": density(0) },
      ...likeness,
      ...scores,
    }),
  "caches": (all) =>
    table(rowsOf(all, ["128"], (name) => /^(full|first-block|pab|easy|vorta pab)$/.test(name)), {
      ...{ "attention": setting, "density": density(0) },
      ...likeness,
      ...scores,
    }),
  "recall, 512": ({ 512: at }) => recallTable(at),
  "recall, 256": ({ 256: at }) => recallTable(at),
  "routes": (all) => routesTable(all["512"]),
};

const size: Column = ({ size }) => `${size}×${size}`;
const setting: Column = ({ setting }) => setting.replace(/^veda keep 0/, "veda keep=0");
const density = (decimals: number): Column => (row) =>
  `${(100 * Number(over(row, ({ density }) => density, 6))).toFixed(decimals)} %`;
const speed: Column = ({ seconds, fullSeconds }) =>
  seconds && fullSeconds ? `${(fullSeconds.denoise / seconds.denoise).toFixed(2)}×` : "";
const share = (score: string): Column => (row) => {
  const found = judgedScore(row.marks, row.full, score);
  return found ? `${(100 * found.share).toFixed(1)} %` : "";
};
const scoreWithInterval = (score: string): Column => (row) => {
  const found = judgedScore(row.marks, row.full, score);
  if (!found || row.setting === "full") return share(score)(row);
  const points = (share: number) => (100 * share).toFixed(1).replace("-", "−").replace(/^−0\.0$/, "0.0");
  return `${(100 * found.share).toFixed(1)} % (${points(found.low)} to ${points(found.high)})`;
};
const likeness: Readonly<Record<string, Column>> = {
  "PSNR, dB": (row) => over(row, ({ psnr }) => psnr, 2),
  "SSIM": (row) => over(row, ({ ssim }) => ssim, 4),
  "flicker": (row) => over(row, ({ flicker }) => flicker, 3),
};
const scores: Readonly<Record<string, Column>> = {
  "shape": scoreWithInterval("shape"),
  "motion": scoreWithInterval("motion"),
  "all six": scoreWithInterval("all"),
};
/** Prompts that settings are chosen with, so that the study's prompts are only for the result. */
const validationTable = (all: Readonly<Record<string, Measured>>, name: string): string =>
  table(rowsOf(all, [name], () => true), {
    ...{ "setting": setting, "density": density(1) },
    "PSNR, dB": likeness["PSNR, dB"]!,
    ...scores,
  });

/** The study's settings in its order, of those that have the most prompts. */
function studyRows(all: Readonly<Record<string, Measured>>): Row[] {
  const names = ["full", ...studySettings().map(({ name }) => name)], { results } = all["512"]?.run ?? { results: [] };
  const counts = new Map(results.map(({ setting, clips }) => [setting, clips.length]));
  const most = Math.max(0, ...counts.values());
  return rowsOf(all, ["512"], (name) => names.includes(name) && counts.get(name) === most)
    .sort((a, b) => names.indexOf(a.setting) - names.indexOf(b.setting));
}

if (import.meta.main) {
  await runAsProgram({
    name: "deno task quality",
    options: {},
    positional: "DIR...",
    run: async (_, folders) => {
      if (folders.length === 0) throw new TilereelError("name the folder that quality.tar.gz was unpacked in");
      const path = join(ROOT, DOCUMENT), measured = await readMeasured(folders);
      await Deno.writeTextFile(path, documentOf(await Deno.readTextFile(path), measured));
      const { success } = await new Deno.Command(Deno.execPath(), { args: ["fmt", "--quiet", DOCUMENT], cwd: ROOT })
        .output();
      if (!success) throw new TilereelError(`deno fmt could not format ${DOCUMENT}`);
    },
  });
}

/** The document with its tables made anew. */
export function documentOf(text: string, measured: Readonly<Record<string, Measured>>): string {
  return withParts(text, "quality", (name) => {
    const part = TABLES[name];
    if (!part) throw new TilereelError(`no table is called ${name}: use ${Object.keys(TABLES).join(", ")}`);
    return part(measured);
  });
}

/**
 * What is in folders, by size: SIZE-LIST-PROCESS.json, judged-SIZE.json, recall-SIZE.json, times-NAME.json for the
 * largest, and folders named validation… with such files. Several folders have different prompts of the same settings; of a
 * prompt that two have, the last counts.
 */
export async function readMeasured(folders: readonly string[]): Promise<Record<string, Measured>> {
  const paths = (await Promise.all(
    folders.map(async (folder) =>
      (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => join(folder, name)).sort()
    ),
  )).flat();
  const named = (pattern: RegExp) => paths.filter((path) => pattern.test(basename(path)));
  const runs = async (pattern: RegExp) => merged(await Promise.all(named(pattern).map(readRun)));
  const json = (name: string) =>
    Promise.all(
      paths.filter((path) => basename(path) === name).map(async (path) => JSON.parse(await Deno.readTextFile(path))),
    );
  const sizes = [...new Set(paths.flatMap((path) => /^(\d+)-.*\.json$/.exec(basename(path))?.[1] ?? []))];
  if (sizes.length === 0) throw new TilereelError(`${folders[0]} has no results, such as 512-1-study-01.json`);
  const largest = String(Math.max(...sizes.map(Number)));
  const validations = Map.groupBy(
    paths.filter((path) => basename(path).startsWith(VALIDATION)),
    (path) => basename(path),
  );
  const others = await Promise.all(
    [...validations].map(async ([name, folders]) => [name, (await readMeasured(folders))[largest]!] as const),
  );
  const measured = Object.fromEntries(
    await Promise.all(sizes.map(async (size) => {
      const recall = (await json(`recall-${size}.json`)).at(-1);
      return [size, {
        run: await runs(new RegExp(`^${size}-(?!\\d-others).*\\.json$`)),
        judged: seenByAll(await json(`judged-${size}.json`)),
        ...recall && { recall: recall.results },
        times: size === largest ? await runs(/^times-.*\.json$/) : { results: [] },
      }];
    })),
  );
  return { ...measured, ...Object.fromEntries(others) };
}

/** What several judges saw. */
function seenByAll(all: readonly Judged[]): Judged {
  const settings = new Set(all.flatMap((judged) => Object.keys(judged)));
  return Object.fromEntries(
    [...settings].map((setting) => [setting, Object.assign({}, ...all.map((judged) => judged[setting]))]),
  );
}

/** The settings of some sizes, full attention first, over the prompts that all of a size have. */
function rowsOf(
  all: Readonly<Record<string, Measured>>,
  sizes: readonly string[],
  takes: (setting: string) => boolean,
): Row[] {
  return sizes.flatMap((size) => {
    const { run, judged, times } = all[size] ?? { run: { results: [] }, judged: {}, times: { results: [] } };
    const results = run.results.filter(({ setting }) => takes(setting))
      .sort((a, b) => Number(b.setting === "full") - Number(a.setting === "full"));
    const complete = completePrompts({ results }, results.map(({ setting }) => setting));
    const seen = ({ setting }: SettingResult) => judged[slug(setting)] ?? {};
    const prompts = [...complete].filter((prompt) => results.every((result) => seen(result)[prompt]));
    // Where the judge has not looked, there are figures alone.
    const counted = new Set(prompts.length > 0 ? prompts : complete);
    const marksOf = (result: SettingResult | undefined) =>
      Object.fromEntries(
        Object.entries(result ? seen(result) : {}).filter(([prompt]) => counted.has(Number(prompt)))
          .map((
            [prompt, marks],
          ) => [prompt, { ...marks, all: SCORES.flatMap((key) => marks[key] ?? []) }]),
      );
    const full = marksOf(results.find(({ setting }) => setting === "full"));
    const secondsOf = (setting: string) =>
      times.results.find((result) => result.setting === setting)?.clips[0]?.seconds;
    return results.map((result): Row => ({
      ...{ size, setting: result.setting, full, marks: marksOf(result) },
      clips: result.clips.filter(({ prompt }) => counted.has(prompt)),
      ...{ seconds: secondsOf(result.setting), fullSeconds: secondsOf("full") },
    }));
  });
}

/** The mean over a row's clips that have such a number. */
function over({ clips }: Row, of: (clip: ClipFigures) => number | null | undefined, decimals: number): string {
  return mean(clips.map(of).filter((x) => typeof x === "number"), decimals);
}

function table(rows: readonly Row[], columns: Readonly<Record<string, Column>>): string {
  if (rows.length === 0) return "Not measured.";
  const counts = Map.groupBy(rows, ({ size }) => size);
  const prompts = [...counts].map(([size, [row]]) =>
    `${row!.clips.length} ${size.startsWith(VALIDATION) ? "other prompts" : `prompts at ${size}×${size}`}`
  );
  return `${prompts.join(", ")}:\n\n${tableOf(rows, columns)}`;
}

/** Scores by the shares of tiles that are kept. */
function recallTable(measured: Measured | undefined): string {
  if (!measured?.recall) return "Not measured.";
  const byPicker = Map.groupBy(
    measured.recall,
    ({ picker }) => picker.replace(/^trained to (\w+),.*/, "trained to $1"),
  );
  const keeps = [...new Set(measured.recall.map(({ keep }) => keep))].join(" / ");
  const shares = (of: (row: Recall) => number) => ([, rows]: [string, Recall[]]) =>
    `${rows.map((row) => (100 * of(row)).toFixed(1)).join(" / ")} %`;
  return tableOf([...byPicker], {
    [`scores at keep ${keeps}`]: ([picker]) => picker,
    "recall, max": shares(({ recallMax }) => recallMax),
    "recall, mass": shares(({ recallSum }) => recallSum),
    "kept": shares(({ kept }) => kept),
    "error": shares(({ error }) => error),
  });
}

/** The numbers of heads that VORTA's router sends to each branch, by layer, in some steps. */
function routesTable(measured: Measured | undefined): string {
  const routes = measured?.run.results.find(({ setting }) => setting === "vorta dense-steps=0")?.routes;
  if (!routes) return "Not measured.";
  const steps = [...new Set([0, Math.floor((routes.length - 1) / 2), routes.length - 1])];
  const counts = (heads: readonly number[]) =>
    [0, 1, 2].map((branch) => heads.filter((route) => route === branch).length).join("/");
  return tableOf(routes[0]!.map((_, layer) => layer), {
    "layer": String,
    ...Object.fromEntries(steps.map((step) => [`step ${step + 1}`, (layer: number) => counts(routes[step]![layer]!)])),
  });
}
