import type { TorchRun } from "../targets/measured.ts";
import type { CountedMemory } from "./estimates.ts";
import type { Figure, FiguresRun } from "./sections.ts";

/** What docs/figures.json has: the results that the tables and plots of the docs are made from. */
export interface Stored {
  readonly runs: readonly StoredRun[];
  readonly torch: readonly TorchRun[];
  /** The memory of the settings of README's table; counted, not measured. */
  readonly memory?: readonly CountedMemory[];
}

/** A run, and the commit that was measured. */
export interface StoredRun extends FiguresRun {
  readonly commit?: string;
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
    const figures = this.#runsOn(source).flatMap(({ figures }) => figures.filter(isAsked));
    return [...new Map(figures.map((figure) => [figure.id, figure])).values()];
  }

  /**
   * The versions that figures of a source were measured with, if any is not that of the newest run: "commit c0ffee,
   * 2026-11-30".
   */
  earlier(source: Source, isOf: (id: string) => boolean): readonly string[] {
    const runs = new Map<string, StoredRun>();
    for (const run of this.#runsOn(source)) {
      for (const { id, precision } of run.figures) if (isOf(id)) runs.set(`${precision} ${id}`, run);
    }
    const used = [...new Set(runs.values())], newest = this.#newest?.commit;
    if (used.every(({ commit }) => commit === newest)) return [];
    return [...new Set(used.map(({ commit, date }) => `commit ${commit}, ${date.slice(0, 10)}`))];
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

  /** The adapter, and the commit and the day of the newest run. */
  get about(): { readonly adapter: string; readonly date: string; readonly commit: string } {
    const newest = this.#newest, native = this.#runsOn("deno")[0] ?? newest;
    return {
      adapter: native?.adapter ?? "nothing",
      date: newest?.date.slice(0, 10) ?? "",
      commit: newest?.commit ?? "",
    };
  }

  #runsOn(source: Source): readonly StoredRun[] {
    return this.stored.runs.filter((run) => run.source === source);
  }

  get #newest(): StoredRun | undefined {
    return this.stored.runs.toSorted((a, b) => a.date < b.date ? -1 : 1).at(-1);
  }
}
