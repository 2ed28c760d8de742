import { variable, type VariableName } from "../../gpu/common/environment.ts";
import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { lineOf } from "../../tools/program/command_line.ts";
import type { Output } from "../../tools/program/output.ts";
import { notation } from "../../tools/program/options.ts";

/** The part of the work that one of several processes does. */
export interface Shard {
  /** From 1 to `count`. */
  readonly index: number;
  readonly count: number;
}

/** A shard, and what told which it is, if that was not `--shard`: "task 2 of 4 of a Slurm array". */
export interface ChosenShard extends Shard {
  readonly from?: string;
}

/** More is probably a typing error. */
const MOST_SHARDS = 100_000;

/** `--shard`; `help` says what is shared. */
export const shardOption = (help: string) =>
  notation<Shard>(
    {
      value: "I/N",
      help:
        `${help} Shards are numbered from 1: 1/4, 2/4, 3/4 and 4/4 are all of it. They share the folder and no file, and ` +
        `can run in any order, at any time, and again. 1/1 is everything, also in a Slurm array or a Kubernetes job.`,
      elsewhere: ["shard-id", "num-shards", "rank", "world-size", "local-rank"],
      default: "the task of a Slurm array or of an indexed Kubernetes job, which is shown; otherwise everything",
    },
    "a shard and the number of shards, as in 2/4, where the first shard is 1",
    (text) => {
      const [, index, count] = /^(\d{1,6})\/(\d{1,6})$/.exec(text)?.map(Number) ?? [];
      const shard = { index: index ?? 0, count: count ?? 0 };
      return isShard(shard) ? shard : undefined;
    },
  );

/**
 * The shard that was asked for, or the one that a cluster's task stands for; undefined for all of the work.
 *
 * @param read gives a variable's value
 * @param note told what cannot be a shard
 * @throws {TilereelError} if the tasks of an array are not numbered one after another
 */
export function chosenShard(
  given: Shard | undefined,
  note: (clause: string) => void,
  read: (name: VariableName) => string | undefined = variable,
): ChosenShard | undefined {
  const shard = given ?? slurmShard(read) ?? kubernetesShard(read, note);
  return shard?.count === 1 ? undefined : shard;
}

function slurmShard(read: (name: VariableName) => string | undefined): ChosenShard | undefined {
  const id = read("SLURM_ARRAY_TASK_ID"), count = read("SLURM_ARRAY_TASK_COUNT");
  const first = read("SLURM_ARRAY_TASK_MIN"), last = read("SLURM_ARRAY_TASK_MAX");
  if (!id || !count || !first || !last) return undefined;
  const index = Number(id) - Number(first) + 1, all = Number(count);
  if (Number(last) - Number(first) + 1 !== all || !isShard({ index, count: all })) {
    throw new TilereelError(
      `SLURM_ARRAY_TASK_ID is ${quoted(id)}, one of ${quoted(count)} from ${quoted(first)} to ${
        quoted(last)
      }, so which ` +
        `shard this is is unknown: number the tasks one after another, as in --array=1-4, or give --shard I/N`,
    );
  }
  return { index, count: all, from: `task ${index} of ${all} of a Slurm array` };
}

function kubernetesShard(
  read: (name: VariableName) => string | undefined,
  note: (clause: string) => void,
): ChosenShard | undefined {
  const index = read("JOB_COMPLETION_INDEX"), count = read("JOB_COMPLETIONS");
  if (!index) return undefined;
  const shard = { index: Number(index) + 1, count: Number(count) };
  if (!count) {
    note("JOB_COMPLETION_INDEX is set, but not JOB_COMPLETIONS, the number of completions, so this is no shard");
    return undefined;
  }
  if (!isShard(shard)) {
    throw new TilereelError(
      `JOB_COMPLETION_INDEX is ${quoted(index)} and JOB_COMPLETIONS is ${
        quoted(count)
      }, but a number from 0 and a larger ` +
        `one were expected: set JOB_COMPLETIONS to the number of completions, or give --shard I/N`,
    );
  }
  return { ...shard, from: `index ${index} of ${count} of a Kubernetes job` };
}

/** Whether these are numbers of a shard. */
export function isShard({ index, count }: Shard): boolean {
  return Number.isInteger(index) && Number.isInteger(count) && index >= 1 && index <= count && count <= MOST_SHARDS;
}

/**
 * What of the work belongs to a shard: every n-th, so that each has some of all, and keeps it if more is added behind.
 *
 * @param key what is equal where two of the work belong together, because they make the same files
 */
export function shareOf<T>(all: readonly T[], shard: Shard | undefined, key: (one: T) => unknown = (one) => one): T[] {
  if (!shard) return [...all];
  const numbers = new Map<unknown, number>();
  return all.filter((one) => {
    const own = key(one), number = numbers.get(own) ?? numbers.size;
    numbers.set(own, number);
    return number % shard.count === shard.index - 1;
  });
}

/** The command line of this process, for all of the work. */
export function wholeCommandLine(args: readonly string[] = Deno.args): string {
  const words = args.filter((arg, i) => !/^--shard(=|$)/.test(arg) && args[i - 1] !== "--shard");
  return lineOf(...words);
}

/** The words that add a shard to it. */
export function shardWords({ index, count }: Shard): string {
  return `--shard ${index}/${count}`;
}

/**
 * @throws {TilereelError} if shards would write the same file
 */
export function checkOwn(shard: Shard | undefined, files: Readonly<Record<string, unknown>>): void {
  const [name] = Object.entries(files).find(([, file]) => typeof file === "string") ?? [];
  if (!shard || name === undefined) return;
  throw new TilereelError(
    `--${name} names a file that all shards would write: leave it out, or give it without a file`,
  );
}

/** Says what a shard does: `own` of `all` units. Where no option asked for it, that is a note. */
export function tellShard(
  { index, count, from }: ChosenShard,
  unit: string,
  own: number,
  all: number,
  { say, note }: Pick<Output, "say" | "note">,
): void {
  const share = `${own} of ${all} ${unit}s`;
  if (from === undefined) say(`Shard ${index} of ${count}: ${share}.`);
  else note(`this is ${from}, so it makes shard ${index} of ${count}, ${share}; --shard 1/1 makes all`);
}

/** The last lines of a shard's output: what it did, and how to see the others. */
export function withShard({ index, count }: Shard, lines: string, folder: string): string {
  return `Shard ${index} of ${count}: ${lines}\nSee how far all are with:\n  ${lineOf("status", folder)}`;
}
