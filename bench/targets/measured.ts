import { join } from "node:path";
import { fileError } from "../../model/files/file_error.ts";
import type { FullSizeRun } from "../full_size.ts";
import type { FiguresRun } from "../figures/sections.ts";
import type { HeadlineRun } from "../headline.ts";
import type { KernelRun } from "../main.ts";
import type { QualityRun } from "../quality/results.ts";
import type { SparseRun } from "../sparse.ts";
import type { StepsRun } from "../steps.ts";

/** The results of `tools/gpu_machine/torch_baseline.py`. */
export interface TorchRun {
  readonly results: readonly {
    readonly shape: string;
    readonly what: string;
    readonly ms?: number;
    readonly tflops?: number;
    /** The tokens of attention, and the share of its pairs that are computed, where it has several. */
    readonly tokens?: number;
    readonly density?: number;
    /** Of "peak memory". */
    readonly GiB?: number;
  }[];
}

/** What `tools/demo/judge.py` found in the clips of a setting, which is told by its folder. */
export interface JudgeRun {
  readonly setting: string;
  /** For each attribute its share, and how often it was looked for. */
  readonly shares: Readonly<Record<string, readonly [share: number, count: number]>>;
}

/** How a job ended. */
export interface Job {
  readonly name: string;
  /** Its exit status, or why it has none. */
  readonly status: string;
  readonly seconds: string;
}

/** All results that were found, by kind. */
export interface Measured {
  readonly kernels: KernelRun[];
  readonly sparse: SparseRun[];
  readonly steps: StepsRun[];
  readonly headline: HeadlineRun[];
  readonly figures: FiguresRun[];
  readonly torch: TorchRun[];
  readonly memory: FullSizeRun[];
  readonly stream: FullSizeRun[];
  readonly resident: FullSizeRun[];
  readonly quality: QualityRun[];
  readonly judge: JudgeRun[];
  readonly jobs: Job[];
}

/** The files of each kind, by their names. */
const FILES: Readonly<Record<Exclude<keyof Measured, "jobs">, RegExp>> = {
  kernels: /^bench-/,
  sparse: /^sparse(14)?-/,
  steps: /^steps(14)?-/,
  headline: /^headline-/,
  figures: /^figures-/,
  torch: /^torch\./,
  memory: /^memory-/,
  stream: /^stream-/,
  resident: /^resident-/,
  quality: /^quality-/,
  judge: /^judge-/,
};

/**
 * Reads the folders that `run.sh` filled: the results of the jobs on a GPU machine that the targets need. A file that
 * is incomplete, because its job was stopped, is left out.
 */
export function readMeasured(folders: readonly string[]): Measured {
  const measured: Record<string, unknown[]> = { jobs: [] };
  for (const kind of Object.keys(FILES)) measured[kind] = [];
  for (const folder of folders) {
    for (const name of namesIn(folder)) {
      const path = join(folder, name);
      if (name === "jobs.tsv") measured.jobs!.push(...readJobs(path));
      const kind = name.endsWith(".json") && Object.entries(FILES).find(([, files]) => files.test(name))?.[0];
      const data = kind && readJson(path);
      if (!data) continue;
      measured[kind]!.push(
        kind === "judge" ? { ...data, setting: name.slice("judge-".length, -".json".length) } : data,
      );
    }
  }
  return measured as unknown as Measured;
}

function namesIn(folder: string): string[] {
  try {
    return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  } catch (error) {
    throw fileError(folder, "read", error);
  }
}

function readJson(path: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(Deno.readTextFileSync(path));
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function readJobs(path: string): Job[] {
  return Deno.readTextFileSync(path).split("\n").filter((line) => line !== "").map((line) => {
    const [name, status, seconds] = line.split("\t") as [string, string, string];
    return { name, status, seconds };
  });
}
