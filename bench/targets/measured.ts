/**
 * What the jobs of a GPU machine left behind, as far as the targets ask for it.
 *
 * @module
 */
import { join } from "node:path";

/** Of `bench/main.ts`. */
export interface KernelRun {
  readonly adapter: string;
  readonly source: string;
  readonly results: readonly { readonly case: string; readonly kernels: string; readonly gflopsPerSecond: number }[];
}

/** Of `bench/sparse.ts`. */
export interface SparseRun {
  readonly adapter: string;
  readonly source: string;
  readonly precision: string;
  readonly shape: string;
  readonly heads: number;
  readonly headDim: number;
  readonly grid: readonly [number, number, number];
  readonly results: readonly { readonly kind: string; readonly ms: number; readonly efficiency: number }[];
}

/** Of `bench/steps.ts`. */
export interface StepsRun {
  readonly source: string;
  readonly precision: string;
  readonly shape: string;
  readonly shareAtGoal?: number | null;
  readonly results: readonly {
    readonly method: string;
    readonly fullHeads?: number;
    readonly keep?: number;
    readonly blockMs: number;
    readonly blockSpread: number;
    readonly attentionMs: number;
    readonly restMs: number;
    readonly fromBlocks: number;
    readonly whole?: number;
    readonly speedUp: number;
    readonly profile?: { readonly gaps: number };
  }[];
}

/** Of `tools/gpu_machine/torch_baseline.py`. */
export interface TorchRun {
  readonly results: readonly {
    readonly shape: string;
    readonly what: string;
    readonly ms?: number;
    readonly tflops?: number;
  }[];
}

/** Of `bench/full_size.ts`. */
export interface FullSizeRun {
  readonly source: string;
  readonly precision: string;
  readonly shape: string;
  readonly clip: string;
  readonly layers: number;
  readonly stepSeconds: readonly number[];
  readonly decodeSeconds: number;
  readonly peak: number;
}

/** Of `bench/quality.ts`: some of the prompts. */
export interface QualityRun {
  readonly results: readonly {
    readonly setting: string;
    readonly report: { readonly density: number };
    readonly clips: readonly { readonly psnr: number; readonly ssim: number; readonly flicker: number }[];
  }[];
}

/** Of `tools/demo/judge.py`, by the setting's folder: for each attribute its share and how often it was looked for. */
export interface JudgeRun {
  readonly setting: string;
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
  readonly torch: TorchRun[];
  readonly memory: FullSizeRun[];
  readonly stream: FullSizeRun[];
  readonly resident: FullSizeRun[];
  readonly quality: QualityRun[];
  readonly judge: JudgeRun[];
  readonly jobs: Job[];
}

/** The kind of a file's contents, by its name. */
const KINDS: readonly (readonly [start: RegExp, kind: Exclude<keyof Measured, "jobs">])[] = [
  [/^bench-/, "kernels"],
  [/^sparse(14)?-/, "sparse"],
  [/^steps(14)?-/, "steps"],
  [/^torch\./, "torch"],
  [/^memory-/, "memory"],
  [/^stream-/, "stream"],
  [/^resident-/, "resident"],
  [/^quality-/, "quality"],
  [/^judge-/, "judge"],
];

/** Reads folders that `run.sh` filled. A file that is not whole, of a job that was stopped, is left out. */
export function readMeasured(folders: readonly string[]): Measured {
  const measured: Measured = {
    kernels: [],
    sparse: [],
    steps: [],
    torch: [],
    memory: [],
    stream: [],
    resident: [],
    quality: [],
    judge: [],
    jobs: [],
  };
  for (const folder of folders) {
    for (const { name } of [...Deno.readDirSync(folder)].sort((a, b) => a.name < b.name ? -1 : 1)) {
      const path = join(folder, name);
      if (name === "jobs.tsv") measured.jobs.push(...readJobs(path));
      const kind = name.endsWith(".json") && KINDS.find(([start]) => start.test(name))?.[1];
      if (!kind) continue;
      const data = readJson(path);
      if (data === undefined) continue;
      const setting = /^judge-(.*)\.json$/.exec(name)?.[1];
      (measured[kind] as unknown[]).push(setting === undefined ? data : { ...data, setting });
    }
  }
  return measured;
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
