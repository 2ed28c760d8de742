/**
 * Verdicts on the result of a training or a search, with advice.
 *
 * @module
 */

/** "unknown": there were too few steps to tell. */
export type Grade = "good" | "fair" | "poor" | "unknown";

/** A grade for a trained router, scorer or tile plan, with the reasons for it. */
export interface Verdict {
  readonly grade: Grade;
  /** Sentences: why. */
  readonly why: string;
  /** Sentences, each one thing to do. */
  readonly advice: readonly string[];
}

const MEANING: Readonly<Record<Grade, string>> = {
  good: "usable",
  fair: "usable, within limits",
  poor: "not usable yet",
  unknown: "too early to tell",
};

/** As lines of text. */
export function verdictText({ grade, why, advice }: Verdict): string {
  return [`Verdict: ${MEANING[grade]}. ${why}`, ...advice.map((sentence) => `  - ${sentence}`)].join("\n");
}

/** `12.3 %`, `57 %` */
export function percent(share: number): string {
  const value = 100 * share;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}
