/**
 * The summary that a training or a search prints at its end.
 *
 * @module
 */
import { type Verdict, verdictText } from "./verdict.ts";

/** The results in words and as an object. */
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
