import { TilereelError } from "../../gpu/common/errors.ts";
import { fileError } from "../../model/files/file_error.ts";

/** Steps that a mean is taken over: as in docs/quality.md, and enough to see each of the recipe's five noise intervals. */
const WINDOW = 20;

/** Means over the first and the last steps. */
export interface Trend {
  readonly first: number;
  readonly last: number;
}

/** Summarizes the whole log of a training, also of steps before it was resumed. */
export class TrainingLog<T> {
  private constructor(readonly steps: readonly T[]) {}

  /**
   * Reads a `metrics.jsonl`.
   *
   * @throws {TilereelError} when it cannot be read or a line is not JSON
   */
  static async read<T>(path: string): Promise<TrainingLog<T>> {
    const text = await Deno.readTextFile(path).catch((error) => {
      throw fileError(path, "read", error);
    });
    try {
      return new TrainingLog<T>(text.split("\n").filter(Boolean).map((line) => JSON.parse(line)));
    } catch (cause) {
      throw new TilereelError(`${path} is damaged: a line is not JSON; train again with another --out folder`, {
        cause,
      });
    }
  }

  /** Steps that {@linkcode trend} takes means over: 20, or half of a short log. */
  get window(): number {
    return Math.max(1, Math.min(WINDOW, Math.floor(this.steps.length / 2)));
  }

  /** How a figure went. */
  trend(of: (step: T) => number): Trend {
    const mean = (steps: readonly T[]) => steps.reduce((sum, step) => sum + of(step), 0) / steps.length;
    return { first: mean(this.steps.slice(0, this.window)), last: mean(this.steps.slice(-this.window)) };
  }
}

/** `0.512 → 0.401` */
export function trendText({ first, last }: Trend): string {
  return `${first.toPrecision(3)} → ${last.toPrecision(3)}`;
}
