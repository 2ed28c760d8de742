import { printable } from "../../gpu/common/errors.ts";
import { formatDuration } from "../../tools/program/format_duration.ts";
import { textTable } from "../../tools/program/text_table.ts";
import { shardWords } from "../shards/shard.ts";
import type { Failure } from "../shards/shard_log.ts";
import type { ServerReport } from "./server.ts";
import type { ShardReport, WorkReport } from "./shards.ts";
import type { TrainingReport } from "./training.ts";

/** The most shards that are listed one by one, and the most failures that are named. */
const MOST_SHARDS = 40, MOST_FAILURES = 10;

/** What is known of shards, in lines. `now` is in seconds since 1970. */
export function workText(
  { commandLine, unit, total, done, failed, secondsLeft, shards }: WorkReport,
  now: number,
): string {
  const listed = shards.length <= MOST_SHARDS
    ? shards
    : shards.filter(({ status }) => !["done", "waiting"].includes(status));
  const others = (status: string) =>
    shards.length > listed.length ? shards.filter((one) => one.status === status).length : 0;
  const rows = listed.slice(0, MOST_SHARDS).map((shard) => rowOf(shard, shards.length, now));
  const [first, ...more] = shards.filter(({ status }) => status === "stopped" || status === "failed");
  const counts = [`${done} of ${total} ${unit}s`, ...failed > 0 ? [`${failed} failed`] : []].join(", ");
  return [
    `${counts}, by ${shards.length} ${shards.length === 1 ? "shard" : "shards"} of`,
    `  ${printable(commandLine)}`,
    ...rows.length > 0 ? [textTable(rows)] : [],
    ...others("done") > 0 ? [`  ${others("done")} others are done`] : [],
    ...others("waiting") > 0 ? [`  ${others("waiting")} others have not begun`] : [],
    ...failureLines(shards.flatMap(({ failed }) => failed)),
    ...secondsLeft === undefined ? [] : [`The shards that run are done in about ${formatDuration(secondsLeft)}.`],
    ...first === undefined ? [] : [
      `Run ${more.length === 0 ? "it" : "them"} again, which keeps what is there:`,
      ...[first, ...more].slice(0, 3).map(({ index }) =>
        `  ${printable(commandLine)} ${shardWords({ index, count: shards.length })}`
      ),
    ],
  ].join("\n");
}

function rowOf(shard: ShardReport, count: number, now: number): string[] {
  const { index, status, total, done, current, fraction, secondsLeft, host, updated } = shard;
  const details = [
    ...current === undefined ? [] : [`${printable(current)} (${Math.floor(100 * fraction!)} %)`],
    ...secondsLeft === undefined ? [] : [`about ${formatDuration(secondsLeft)} left`],
    ...status === "stopped" ? [`last heard of ${ago(updated!, now)}`] : [],
    ...host === undefined || status === "done" ? [] : [`on ${printable(host)}`],
  ];
  return [`${index}/${count}`, status, total === undefined ? "" : `${done} of ${total}`, details.join(", ")];
}

/** What is known of a training. */
export function trainingText(
  { status, step, steps, secondsLeft, updated, checkpoint, broken, result }: TrainingReport,
  now: number,
): string {
  const all = steps === undefined ? "" : ` of ${steps}`;
  const left = secondsLeft === undefined ? "" : `, about ${formatDuration(secondsLeft)} left`;
  return [
    `A training, ${status}: step ${step}${all}, ${ago(updated, now)}${left}.`,
    ...status === "done"
      ? [`Its result: ${printable(result ?? "none")}.`]
      : broken !== undefined
      ? [`It cannot be resumed: ${broken}.`]
      : status === "running"
      ? []
      : [
        checkpoint === undefined
          ? "It has no checkpoint, and must begin anew."
          : `Its command line with --resume continues from step ${checkpoint}.`,
      ],
  ].join("\n");
}

/** What is known of a server's jobs. */
export function serverText({ running, jobs, failed }: ServerReport): string {
  const { queued, in_progress: begun, completed } = jobs;
  return [
    `A server, which ${
      running ? "runs" : "does not run"
    }: ${completed} clips done, ${begun} begun, ${queued} waiting, ${jobs.failed} failed.`,
    ...failureLines(failed),
    ...running || begun + queued === 0 ? [] : ["It goes on with them when it is started again."],
  ].join("\n");
}

function failureLines(failed: readonly Failure[]): string[] {
  const left = failed.length - MOST_FAILURES;
  return [
    ...failed.slice(0, MOST_FAILURES).map(({ name, why }) => `  ${printable(name)}: ${printable(why)}`),
    ...left > 0 ? [`  and ${left} more failed`] : [],
  ];
}

function ago(then: number, now: number): string {
  return `${formatDuration(Math.max(0, now - then))} ago`;
}
