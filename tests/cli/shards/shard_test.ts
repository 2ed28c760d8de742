import { assertEquals, assertThrows } from "@std/assert";
import { chosenShard, shardOption, shareOf, wholeCommandLine } from "../../../cli/shards/shard.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";

/** What a process with these variables chooses, and the notes. */
function chosen(variables: Record<string, string>, given?: { index: number; count: number }) {
  const notes: string[] = [];
  return { shard: chosenShard(given, (note) => notes.push(note), (name) => variables[name]), notes };
}

/** A task of a Slurm array. */
const slurm = (id: number, first: number, last: number, count = last - first + 1) => ({
  SLURM_ARRAY_TASK_ID: `${id}`,
  SLURM_ARRAY_TASK_MIN: `${first}`,
  SLURM_ARRAY_TASK_MAX: `${last}`,
  SLURM_ARRAY_TASK_COUNT: `${count}`,
});

Deno.test("a shard is a number from 1 and how many there are", () => {
  const { parse } = shardOption("");
  assertEquals(["1/1", "2/4", "100/100"].map((text) => parse(text, "--shard")), [
    { index: 1, count: 1 },
    { index: 2, count: 4 },
    { index: 100, count: 100 },
  ]);
  for (const text of ["0/4", "5/4", "2", "2/", "/4", "a/b", "1.5/4", "-1/4", "1/4/2", "1/9999999"]) {
    assertThrows(() => parse(text, "--shard"), TilereelError, `where the first shard is 1, not "${text}"`);
  }
});

Deno.test("tasks of a Slurm array and of a Kubernetes job are shards, wherever they begin to count", () => {
  assertEquals(chosen(slurm(0, 0, 3)).shard, { index: 1, count: 4, from: "task 1 of 4 of a Slurm array" });
  assertEquals(chosen(slurm(4, 1, 4)).shard, { index: 4, count: 4, from: "task 4 of 4 of a Slurm array" });
  const pod = { JOB_COMPLETION_INDEX: "0", JOB_COMPLETIONS: "4" };
  assertEquals(chosen(pod).shard, { index: 1, count: 4, from: "index 0 of 4 of a Kubernetes job" });
  // What is given goes first, and 1/1 is all.
  assertEquals(chosen(slurm(2, 1, 4), { index: 1, count: 2 }).shard, { index: 1, count: 2 });
  assertEquals(chosen(slurm(2, 1, 4), { index: 1, count: 1 }).shard, undefined);
  assertEquals(chosen(slurm(7, 7, 7)).shard, undefined);
  assertEquals(chosen({}), { shard: undefined, notes: [] });
  assertEquals(chosen({ JOB_COMPLETION_INDEX: "0" }), {
    shard: undefined,
    notes: ["JOB_COMPLETION_INDEX is set, but not JOB_COMPLETIONS, the number of completions, so this is no shard"],
  });
  for (const variables of [slurm(2, 2, 4, 2), slurm(7, 1, 7, 3), { ...slurm(1, 1, 4), SLURM_ARRAY_TASK_ID: "x" }]) {
    assertThrows(() => chosen(variables), TilereelError, "number the tasks one after another, as in --array=1-4");
  }
  for (const [index, count] of [["4", "4"], ["-1", "4"], ["0", "many"]] as const) {
    const variables = { JOB_COMPLETION_INDEX: index, JOB_COMPLETIONS: count };
    assertThrows(() => chosen(variables), TilereelError, `JOB_COMPLETIONS is "${count}"`);
  }
});

Deno.test("all shards together have everything once, and what makes the same files is in one", () => {
  const all = Array.from({ length: 11 }, (_, i) => i);
  for (const count of [1, 2, 4, 11, 20]) {
    const shares = Array.from({ length: count }, (_, i) => shareOf(all, { index: i + 1, count }));
    assertEquals(shares.flat().sort((a, b) => a - b), all);
    const sizes = shares.map(({ length }) => length);
    assertEquals(Math.max(...sizes) - Math.min(...sizes) <= 1, true);
    // What is added behind moves nothing.
    assertEquals(shareOf([...all, 11], { index: 1, count }).slice(0, sizes[0]!), shares[0]);
  }
  assertEquals(shareOf(all, undefined), all);
  const words = ["a", "b", "a", "c", "b"];
  assertEquals([1, 2].map((index) => shareOf(words, { index, count: 2 })), [["a", "a", "c"], ["b", "b"]]);
});

Deno.test("the command line of all shards is that of one without its shard", () => {
  const line = (...args: string[]) => wholeCommandLine(args);
  assertEquals(line("generate", "--prompts", "a b", "--shard", "1/4", "-q"), "tilereel generate --prompts 'a b' -q");
  assertEquals(line("generate", "--shard=1/4", "-q"), "tilereel generate -q");
  assertEquals(line("generate", "-q"), "tilereel generate -q");
});
