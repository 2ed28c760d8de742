/** Each command runs with its rights alone; all other tests of the command line do, too. */
import { assertEquals } from "@std/assert";
import { join } from "node:path";
import { Arguments } from "../../../cli/rights/arguments.ts";
import { RIGHTS, rightsOf } from "../../../cli/rights/rights.ts";
import { COMMANDS } from "../../../cli/command_table.ts";
import type { Command } from "../../../tools/program/command.ts";
import { parseCommand } from "../../../tools/program/parse.ts";
import { assertRefused, inTempDir, QUICK, tilereel } from "../../process.ts";

/** All commands, by the words that name them. */
async function loadCommands(): Promise<Record<string, Command>> {
  const entries = Object.entries(COMMANDS).flatMap(([name, entry]) =>
    "commands" in entry
      ? Object.entries(entry.commands).map(([next, { load }]) => [`${name} ${next}`, load] as const)
      : [[name, entry.load] as const]
  );
  return Object.fromEntries(await Promise.all(entries.map(async ([name, load]) => [name, (await load()).command])));
}

Deno.test("rights name options that there are, of all commands", async () => {
  const commands = await loadCommands();
  assertEquals(Object.keys(RIGHTS).sort(), Object.keys(commands).sort());
  for (const [name, { files = {}, folders = {}, flags }] of Object.entries(RIGHTS)) {
    const { options } = commands[name]!;
    for (const option of Object.keys({ ...files, ...folders })) {
      assertEquals([name, option, options[option]?.kind], [name, option, "path"]);
    }
    if (flags === undefined) continue;
    const without = Object.entries(options).filter(([, { value }]) => value === undefined);
    assertEquals(new Set(flags), new Set(without.flatMap(([name, { short }]) => short ? [name, short] : [name])), name);
  }
});

Deno.test("command lines are read as the program reads them", async () => {
  const { generate, convert } = await loadCommands();
  const rows: [Command, readonly string[], string[]][] = [
    [generate!, [], ["a ball", "--out", "x.mp4", "--seed", "-1"]],
    [generate!, [], ["-o", "x.mp4", "a ball", "-q"]],
    [generate!, [], ["-o=x.mp4", "a ball"]],
    [generate!, [], ["--json", "--out=a=b.mp4", "a ball"]],
    [generate!, [], ["a ball", "-qo", "x.mp4"]],
    [generate!, [], ["a ball", "--", "--out"]],
    [convert!, RIGHTS.convert!.flags!, ["in", "--format", "int8", "-q", "out"]],
    [convert!, RIGHTS.convert!.flags!, ["--quiet", "in", "--no-quiet", "out", "--lora", "a:-1"]],
  ];
  for (const [{ options, name }, flags, words] of rows) {
    const read = new Arguments(words, flags), parsed = parseCommand(words, options, name);
    assertEquals(read.values("out", "o"), "out" in parsed.values ? [parsed.values.out] : [], words.join(" "));
    if (flags.length > 0) assertEquals(read.positionals, parsed.positionals, words.join(" "));
  }
});

Deno.test("a thread with the rights of a command has no others", () =>
  inTempDir(async (dir) => {
    const clip = join(dir, "made", "clip.mp4"), file = join(dir, "file");
    await Deno.mkdir(join(dir, "made"));
    await Deno.writeTextFile(file, "text");
    const tries = async (line: string[]) => {
      const permissions = rightsOf(line);
      const worker = new Worker(new URL("./tries.ts", import.meta.url), { type: "module", deno: { permissions } });
      const tried = new Promise<string[]>((resolve) => worker.onmessage = ({ data }) => resolve(data));
      worker.postMessage({ inside: join(dir, "made", "x"), outside: join(dir, "x"), file });
      const can = await tried;
      worker.terminate();
      return can;
    };
    assertEquals(await tries(["generate", "a ball", "--out", clip]), ["write inside", "read"]);
    assertEquals(await tries(["train", "router", "--out", join(dir, "made")]), ["write inside", "read"]);
    assertEquals(await tries(["convert", file, clip]), ["write inside", "read"]);
    assertEquals(await tries(["download", "wan-1.3b", "--local-dir", join(dir, "made")]), [
      "write inside",
      "connect",
      "listen",
      "listen to all",
    ]);
    assertEquals(await tries(["serve", "--out", join(dir, "made")]), ["write inside", "read", "listen"]);
    for (const name of ["info", "tune", "parity", "completion"]) assertEquals(await tries([name]), ["read"]);
    assertEquals(await tries(["unknown", "--out", clip]), ["read"]);
  }));

Deno.test("what a command has no right to is refused in one sentence", () =>
  inTempDir(async (dir) => {
    const [clips, elsewhere] = [join(dir, "a/clips"), join(dir, "elsewhere")];
    for (const folder of [clips, elsewhere]) await Deno.mkdir(folder, { recursive: true });
    await Deno.writeTextFile(join(elsewhere, "x.mp4"), "");
    await Deno.symlink(join(elsewhere, "x.mp4"), join(clips, "x.mp4"));
    await Deno.writeTextFile(join(dir, "p.jsonl"), JSON.stringify({ prompt: "a ball", out: "x.mp4" }));
    assertRefused(
      await tilereel(["generate", "--prompts", join(dir, "p.jsonl"), "--out", clips, "--overwrite", ...QUICK]),
      "clips/x.mp4: this command has no right to that place; name another place",
    );
    assertEquals(await Deno.readTextFile(join(elsewhere, "x.mp4")), "");
  }));

Deno.test({
  name: "what lies among devices is refused in one sentence",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    const because = "a command reaches nothing in /dev, /proc or /sys, also not in /dev/shm";
    assertRefused(await tilereel(["info", "/proc/self/status"]), `/proc/self/status cannot be read: ${because}`);
    assertRefused(
      await tilereel(["generate", "a ball", "--out", "/dev/shm/x.mp4", ...QUICK]),
      `cannot write /dev/shm/x.mp4: ${because}; name another place`,
    );
  },
});

Deno.test({
  name: "ffmpeg is run where LD_LIBRARY_PATH is set, as it is beside CUDA",
  ignore: Deno.build.os === "windows",
  fn: () =>
    inTempDir(async (dir) => {
      const programs = join(dir, "programs"), data = join(dir, "data");
      for (const folder of [programs, data]) await Deno.mkdir(folder);
      await Deno.writeTextFile(join(programs, "ffmpeg"), '#!/bin/sh\necho "seen: $LD_LIBRARY_PATH." >&2\nexit 1\n', {
        mode: 0o755,
      });
      await Deno.writeTextFile(join(data, "clip.mkv"), "no clip at all");
      await Deno.writeTextFile(join(data, "clip.txt"), "a ball");
      const env = { PATH: `${programs}:${Deno.env.get("PATH")}`, LD_LIBRARY_PATH: dir };
      const folders = ["--data", data, "--out", join(dir, "out"), "--cache", join(dir, "cache")];
      const line = ["train", "router", ...folders, "--size", "32x32", "--frames", "5"];
      assertRefused(await tilereel(line, { env }), 'ffmpeg says "seen: ."');
    }),
});

Deno.test("Dawn may be loaded by a link, as some package managers make it", () =>
  inTempDir(async (dir) => {
    const addon = join(await Deno.realPath(dir), "dawn.node"), link = join(dir, "link.node");
    await Deno.writeTextFile(addon, "no program");
    await Deno.symlink(addon, link);
    const { code, err } = await tilereel(
      ["generate", "a ball", "--gpu", "dawn", "--out", join(dir, "x.mp4"), ...QUICK],
      {
        env: { TILEREEL_DAWN: link },
      },
    );
    assertEquals([code, err.includes("could not be loaded"), err.includes("ffi")], [1, true, false], err);
  }));
