/** The job for Kubernetes says what the program expects. No cluster is needed. */
import { assertEquals } from "@std/assert";
import { join } from "node:path";
import { parse } from "yaml";
import { command } from "../../cli/commands/generate.ts";
import { chosenShard } from "../../cli/shards/shard.ts";
import { parseCommand } from "../../tools/program/parse.ts";
import { ROOT } from "../process.ts";

Deno.test("the pods of the Kubernetes job are shards of all clips", async () => {
  const { spec } = parse(await Deno.readTextFile(join(ROOT, "tools/cluster/job.yaml")));
  const { args: [name, ...args], env } = spec.template.spec.containers[0];
  assertEquals([spec.completionMode, name], ["Indexed", "generate"]);
  assertEquals(Object.keys(parseCommand(args, command.options, command.name).values).slice(0, 2), ["prompts", "out"]);
  const variables = Object.fromEntries(env.map((one: { name: string; value: string }) => [one.name, one.value]));
  const shards = Array.from({ length: spec.completions }, (_, i) => {
    const pod: Record<string, string> = { ...variables, JOB_COMPLETION_INDEX: `${i}` };
    return chosenShard(undefined, () => {}, (name) => pod[name]);
  });
  assertEquals(shards.map((shard) => [shard?.index, shard?.count]), shards.map((_, i) => [i + 1, spec.completions]));
});
