const MEANING = {
  good: "usable",
  fair: "usable, within limits",
  poor: "not usable yet",
  unknown: "too early to tell",
};

/** What is to be expected of something that was trained or searched for. */
export interface Verdict {
  /** "unknown": there were too few steps to tell. */
  readonly grade: keyof typeof MEANING;
  /** Sentences: why. */
  readonly why: string;
  /** Sentences, each one thing to do. */
  readonly advice: readonly string[];
}

/** The results that a training or a search prints at its end, in words and as an object. */
export interface Summary {
  /** What --json prints beside the verdict and the next commands. */
  readonly facts: Readonly<Record<string, unknown>>;
  readonly lines: readonly string[];
  readonly verdict: Verdict;
  /** What the next commands are for, and their lines. */
  readonly invitation: string;
  readonly next: readonly string[];
}

/** Prints a summary, with `say` or as JSON. */
export function printSummary(summary: Summary, json: boolean, say: (text: string) => void): void {
  const { facts, lines, verdict, invitation, next } = summary;
  if (json) console.log(JSON.stringify({ ...facts, verdict, next }));
  else say([...lines, verdictText(verdict), withCommands(invitation, next)].join("\n"));
}

/** A sentence and command lines under it. */
export function withCommands(sentence: string, commands: readonly string[]): string {
  return [`${sentence}:`, ...commands.map((line) => `  ${line}`)].join("\n");
}

/** As lines of text. */
export function verdictText({ grade, why, advice }: Verdict): string {
  return [`Verdict: ${MEANING[grade]}. ${why}`, ...advice.map((sentence) => `  - ${sentence}`)].join("\n");
}

/** `12.3 %`, `57 %` */
export function percent(share: number): string {
  const value = 100 * share;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}
