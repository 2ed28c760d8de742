import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { COMMANDS } from "../../cli/command_table.ts";
import { bashCompletion } from "../../cli/completion/bash.ts";
import { describeCommands } from "../../cli/completion/described_commands.ts";
import { fishCompletion } from "../../cli/completion/fish.ts";
import { zshCompletion } from "../../cli/completion/zsh.ts";
import { assertRefused, execute, inTempDir, tilereel } from "../process.ts";

const isInstalled = (shell: string) => {
  try {
    return new Deno.Command(shell, { args: ["-c", "exit 0"] }).outputSync().success;
  } catch {
    return false;
  }
};

/** Completes the last of the words, as bash takes them apart. */
const COMPLETE = `
source ./script
while read -r line; do
  eval "COMP_WORDS=($line)"
  COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
  COMPREPLY=()
  _tilereel 2>/dev/null
  (IFS='|'; echo "\${COMPREPLY[*]}")
done
`;

Deno.test({
  name: "completion in bash: commands, options, words, files and folders",
  ignore: !isInstalled("bash"),
  fn: () =>
    inTempDir(async (dir) => {
      const table = await describeCommands(COMMANDS);
      await Deno.writeTextFile(join(dir, "script"), bashCompletion(table));
      await Deno.writeTextFile(join(dir, "complete"), COMPLETE);
      await Deno.mkdir(join(dir, "a folder"));
      await Deno.writeTextFile(join(dir, "a file"), "");
      const optionsOf = (name: string) => table.commands.get(name)!.options.map(({ long }) => long).join("|");
      const cases: [string, string][] = [
        ["tilereel ge", "generate"],
        ["tilereel ''", [...Object.keys(COMMANDS), "help", "--help", "--version"].join("|")],
        ["tilereel train ''", "router|tiles|--help"],
        ["tilereel help train ''", "router|tiles|--help"],
        ["tilereel train router --", optionsOf("train router")],
        ["tilereel search tiles --look", "--looks"],
        ["tilereel generate --attention ve", "veda"],
        ["tilereel generate --attention = v", "vorta|veda|vsa"],
        ["tilereel generate --attention =", "full|vorta|veda|vsa|sliding|coreset"],
        ["tilereel generate x --gpu d", "dawn"],
        ["tilereel generate --model a", "a file|a folder"],
        ["tilereel generate --tokenizer a", "a folder"],
        ["tilereel generate -m a", "a file|a folder"],
        ["tilereel generate --tiles a", "a folder|a file"],
        ["tilereel generate --size ''", ""],
        ["tilereel generate ''", ""],
        ["tilereel completion ''", "bash|zsh|fish"],
        ["tilereel nothing --x", ""],
      ];
      const shell = new Deno.Command("bash", {
        args: ["complete"],
        cwd: dir,
        stdin: "piped",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      await new Blob([cases.map(([line]) => `${line}\n`).join("")]).stream().pipeTo(shell.stdin);
      const { stdout, stderr } = await shell.output();
      assertEquals(new TextDecoder().decode(stderr), "");
      const found = new TextDecoder().decode(stdout).split("\n").slice(0, -1);
      const sorted = (words: string) => words.split("|").sort().join("|");
      for (const [i, [line, expected]] of cases.entries()) assertEquals(sorted(found[i]!), sorted(expected), line);
    }),
});

Deno.test({
  name: "completion in fish",
  ignore: !isInstalled("fish"),
  fn: () =>
    inTempDir(async (dir) => {
      await Deno.writeTextFile(join(dir, "script"), fishCompletion(await describeCommands(COMMANDS)));
      const complete = async (line: string) => {
        const { out, err } = await execute("fish", ["--no-config", "-c", `source script; complete -C '${line}'`], {
          cwd: dir,
        });
        assertEquals(err, "");
        return out.split("\n").slice(0, -1).map((line) => line.split("\t")[0]!).sort();
      };
      assertEquals(await complete("tilereel ge"), ["generate"]);
      assertEquals(await complete("tilereel train "), ["router", "tiles"]);
      assertEquals(await complete("tilereel generate --attention v"), ["veda", "vorta", "vsa"]);
      assert((await complete("tilereel generate --tiles sc")).includes("script"));
    }),
});

Deno.test({
  name: "completion in zsh is zsh",
  ignore: !isInstalled("zsh"),
  fn: () =>
    inTempDir(async (dir) => {
      await Deno.writeTextFile(join(dir, "script"), zshCompletion(await describeCommands(COMMANDS)));
      assertEquals(await execute("zsh", ["-n", "script"], { cwd: dir }), { code: 0, out: "", err: "" });
    }),
});

Deno.test("tilereel completion prints a script and says how to install it", async () => {
  const { code, out, err } = await tilereel(["completion", "bash"]);
  assertEquals([code, err, out.split("\n").at(-2)], [0, "", "complete -F _tilereel tilereel"]);
  assertStringIncludes((await tilereel(["completion", "--help"])).out, "source <(tilereel completion bash)");
  assertRefused(
    await tilereel(["completion", "tcsh"]),
    '"tcsh" is not a supported shell: write tilereel completion bash|',
  );
});
