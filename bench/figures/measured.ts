import type { TorchRun } from "../targets/measured.ts";
import type { CountedMemory } from "./estimates.ts";
import type { Figure, FiguresRun } from "./sections.ts";

/** What docs/figures.json has: the results that the tables and plots of the docs are made from. */
export interface Stored {
  /** The commit that was measured. */
  readonly commit: string;
  readonly runs: readonly FiguresRun[];
  readonly torch: readonly TorchRun[];
  /** The memory of the settings of README's table; counted, not measured. */
  readonly memory?: readonly CountedMemory[];
}

export type Source = "dawn" | "deno";
export type Precision = "f16" | "int8";

/** One result of PyTorch. */
export type TorchResult = TorchRun["results"][number];

/** Finds results by name. */
export class Results {
  constructor(readonly stored: Stored) {}

  /** A figure; f16 stands for what "auto" chose. Where it was measured twice, the last one counts. */
  figure(source: Source, precision: Precision, id: string): Figure | undefined {
    return this.figures(source, precision).findLast((figure) => figure.id === id);
  }

  /** All figures of a source and a precision. */
  figures(source: Source, precision: Precision): readonly Figure[] {
    const isAsked = (figure: Figure) => (figure.precision === "int8") === (precision === "int8");
    return this.stored.runs.filter((run) => run.source === source).flatMap(({ figures }) => figures.filter(isAsked));
  }

  /** A result of PyTorch whose name begins so. */
  torch(shape: string, what: string, tokens?: number): TorchResult | undefined {
    return this.torches(shape, what).find((result) => tokens === undefined || result.tokens === tokens);
  }

  /** All results of PyTorch whose names begin so. */
  torches(shape: string, what: string): readonly TorchResult[] {
    return this.stored.torch.flatMap(({ results }) => results)
      .filter((result) => result.shape === shape && result.what.startsWith(what));
  }

  /** The adapter, and the day of the first run. */
  get about(): { readonly adapter: string; readonly date: string; readonly commit: string } {
    const { runs, commit } = this.stored, native = runs.find(({ source }) => source === "deno") ?? runs[0];
    return {
      adapter: native?.adapter ?? "nothing",
      date: runs.map(({ date }) => date).sort()[0]?.slice(0, 10) ?? "",
      commit,
    };
  }
}
