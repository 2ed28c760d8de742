/**
 * `deno task figures [DIR...]`: writes the tables and plots of the docs from docs/figures.json; with folders that
 * `tools/gpu_machine/run.sh figures` filled, that file is first made from them.
 *
 * @module
 */
import { join } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";
import { exists } from "../../model/files/file_error.ts";
import { flag } from "../../tools/program/options.ts";
import { runAsProgram } from "../../tools/program/run_command.ts";
import { withParts } from "../doc_parts.ts";
import { readMeasured } from "../targets/measured.ts";
import { countSettings, estimatesTable, ratesOf, ratesText } from "./estimates.ts";
import { Results, type Stored, type StoredRun } from "./measured.ts";
import { type Plot, stepPlot, svgOf, tokensPlot } from "./plots.ts";
import { aboutText, clipsTable, clipsText, demoKernels, demoTimes, stepText } from "./clip_tables.ts";
import { figuresTable } from "./rows.ts";

const ROOT = join(import.meta.dirname!, "../..");
const STORED = "docs/figures.json";

/**
 * The generated parts of documents by their names: they stand between `<!-- figures: NAME -->` and `<!-- end -->`. One
 * that is undefined, because nothing of it was measured, stays as it is.
 */
const PARTS: Readonly<Record<string, (results: Results) => string | undefined>> = {
  about: aboutText,
  table: figuresTable,
  "HunyuanVideo": (results) => clipsTable(results, "hunyuan", "HunyuanVideo, 720p, 117 frames"),
  "Wan 14B": (results) => clipsTable(results, "14b", "Wan 14B, 720p, 77 frames"),
  "step": stepText,
  "clips": clipsText,
  "demo, times": demoTimes,
  "demo, kernels": demoKernels,
  estimates: estimatesTable,
};

/** The plots by their files. */
const PLOTS: Readonly<Record<string, (results: Results) => Plot>> = {
  "docs/step_over_density.svg": stepPlot,
  "docs/attention_over_tokens.svg": tokensPlot,
};

const DOCUMENTS = ["docs/performance.md", "docs/quality.md", "README.md"];
/** In it, the rates stand between `// figures: rates` and `// end`. */
const RATES_FILE = "model/estimate/rates.ts";

const options = {
  "count-memory": flag({ help: "Count the memory of README's table anew, which takes minutes." }),
};

if (import.meta.main) {
  await runAsProgram({
    name: "deno task figures",
    options,
    positional: "[DIR...]",
    run: async ({ "count-memory": counting = false }, folders) => {
      const before = readStored(), memory = counting ? await countSettings() : before.memory;
      const measured = folders.length > 0 ? await stored(folders, before.torch) : before;
      const now: Stored = { ...measured, ...memory && { memory } };
      await Deno.writeTextFile(join(ROOT, STORED), `${JSON.stringify(now)}\n`);
      const texts = await generated(new Results(now));
      for (const [path, text] of Object.entries(texts)) await Deno.writeTextFile(join(ROOT, path), text);
      const args = ["fmt", "--quiet", ...DOCUMENTS, RATES_FILE, STORED];
      const { success } = await new Deno.Command(Deno.execPath(), { args, cwd: ROOT }).output();
      if (!success) throw new TilereelError("deno fmt could not format the documents that were written");
    },
  });
}

/** What docs/figures.json has. */
export function readStored(): Stored {
  return JSON.parse(Deno.readTextFileSync(join(ROOT, STORED)));
}

/** The commit whose program run.sh ran in a folder, or the checkout's. */
async function commitOf(folder: string): Promise<string> {
  const file = join(folder, "commit");
  if (await exists(file)) return (await Deno.readTextFile(file)).trim();
  const { stdout } = await new Deno.Command("git", { args: ["rev-parse", "--short", "HEAD"], cwd: ROOT }).output();
  return new TextDecoder().decode(stdout).trim();
}

/**
 * The content of docs/figures.json from folders of results.
 *
 * @param known earlier results of PyTorch: what was not measured again stays, because tilereel does not change it
 */
async function stored(folders: readonly string[], known: Stored["torch"]): Promise<Stored> {
  const { figures, torch } = readMeasured(folders), runs: StoredRun[] = [];
  if (figures.length === 0) {
    throw new TilereelError(
      `no figures-*.json is in ${folders.join(" or ")}: name a folder that run.sh figures filled`,
    );
  }
  if (figures.some(({ size }) => size === "small")) {
    throw new TilereelError(
      "the figures are of small sizes, which are for rehearsals: run run.sh figures without SIZE=small",
    );
  }
  for (const folder of folders) {
    const commit = await commitOf(folder);
    runs.push(...readMeasured([folder]).figures.map((run) => ({ ...run, commit })));
  }
  return { runs, torch: [newestOf([...known, ...torch])] };
}

/** All results of PyTorch in one run; of those of the same name, the last. */
export function newestOf(runs: Stored["torch"]): Stored["torch"][number] {
  const all = runs.flatMap(({ results }) => results);
  return {
    results: [
      ...new Map(all.map((result) => [JSON.stringify([result.shape, result.what, result.tokens]), result])).values(),
    ],
  };
}

/** The texts of documents and plots, by their paths, as they should be. */
export async function generated(results: Results): Promise<Record<string, string>> {
  const texts: Record<string, string> = {};
  for (const path of DOCUMENTS) texts[path] = filled(await Deno.readTextFile(join(ROOT, path)), results);
  for (const [path, plot] of Object.entries(PLOTS)) texts[path] = svgOf(plot(results));
  const rates = await Deno.readTextFile(join(ROOT, RATES_FILE));
  texts[RATES_FILE] = rates.replace(/(\/\/ figures: rates\n)[^]*?(\/\/ end)/, `$1${ratesText(ratesOf(results))}\n$2`);
  return texts;
}

/** The text of a document with its generated parts made anew. */
export function filled(text: string, results: Results): string {
  return withParts(text, "figures", (name) => {
    const part = PARTS[name];
    if (!part) {
      throw new TilereelError(`no part of the documents is called ${name}: use ${Object.keys(PARTS).join(", ")}`);
    }
    return part(results);
  });
}
