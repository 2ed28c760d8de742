import type { ModelFolder } from "../../../model/checkpoint/model_folder.ts";
import type { OnProgress } from "../../../model/progress.ts";
import { commandLine } from "../../../tools/program/command_line.ts";
import { openLongRun } from "../../../tools/program/long_run.ts";
import { chosenShard, shardWords, shareOf, tellShard, wholeCommandLine, withShard } from "../../shards/shard.ts";
import { ShardLog } from "../../shards/shard_log.ts";
import { withCommands } from "../summary.ts";
import { openData } from "./data.ts";
import { DEFAULT_CACHE, type RouterValues } from "./options.ts";

/**
 * `--prepare`: makes the latents that a training needs, or a shard of them, and no router.
 *
 * @returns the exit status
 * @throws {TilereelError} if prompts or clips cannot be read or do not fit the model
 */
export async function prepareData(values: RouterValues, folder: ModelFolder): Promise<number> {
  const { json = false, quiet = false, cache = DEFAULT_CACHE, precision = "auto" } = values;
  using work = await openLongRun({
    ...{ quiet: quiet || json, values, precision },
    stopping: "Stopping after this clip; Ctrl-C again stops at once. Finished latents are kept.",
  });
  const { say, note } = work, shard = chosenShard(values.shard, note);
  await using cleanUp = new AsyncDisposableStack();
  let log: ShardLog | undefined, total = 0, made = 0;
  const onProgress: OnProgress = (progress) => {
    work.onProgress(progress);
    if (progress.stage !== "make latents") return;
    if (progress.done === 0) log?.found(total - progress.total);
    for (; made < progress.done; made++) log?.made();
    if (made < progress.total) log?.begin(`${made + 1} of ${progress.total}`);
  };
  const data = await work.unlessStopped(openData(values, { ...work, onProgress }, folder, async (all, key) => {
    const own = shareOf(all, shard, key);
    total = own.length;
    if (shard) tellShard(shard, "latent", total, all.length, work);
    const about = { folder: cache, unit: "latent", total, all: all.length, work: all.map(key) };
    log = cleanUp.use(await ShardLog.open(shard, about, 0));
    return own;
  }));
  if (!data) {
    const again = shard?.from === undefined ? commandLine() : `${commandLine()} ${shardWords(shard)}`;
    say(withCommands("Stopped; finished latents are kept. Continue with", [again]));
    return work.status!;
  }
  if (made === 0) log?.found(total);
  await log?.end();
  const next = wholeCommandLine(Deno.args.filter((arg) => arg !== "--prepare"));
  if (json) {
    console.log(
      JSON.stringify({ cache, ...shard && { shard: [shard.index, shard.count] }, latents: total, made, next: [next] }),
    );
  }
  const lines = `${total} latents are in ${cache}, of which ${made} were made now.`;
  const all = withCommands(shard ? "When all shards are done, train with" : "Train with", [next]);
  say(`${shard ? withShard(shard, lines, cache) : lines}\n${all}`);
  return 0;
}
