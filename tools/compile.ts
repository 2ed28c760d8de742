/**
 * `deno task compile`: makes `dist/tilereel`, one file that runs alone and contains the demo model.
 *
 * `deno compile` makes it if its runtime, denort, can be downloaded. Otherwise it is a self-extracting executable of this
 * Deno and the bundled program.
 *
 * @module
 */
import { join, resolve } from "node:path";
import { runAsProgram } from "./program/run_command.ts";
import { Farewell, handleSignals } from "./program/signals.ts";
import { checkWritable } from "../model/files/output.ts";
import { flag, type OptionValues, path } from "./program/options.ts";
import { RUN_FLAGS, stageProgram } from "./stage_program.ts";
import { writeSelfExtracting } from "./self_extracting.ts";

/** The host of denort. It is tried first, because `deno compile` may wait very long for a host that does not answer. */
const DENORT_HOST = "https://dl.deno.land/";
const PROBE_MS = 10_000;

const options = {
  out: path({ value: "FILE", help: "Where to write it.", default: "dist/tilereel" }),
  "self-extracting": flag({ help: "Do not try deno compile." }),
};

if (import.meta.main) {
  handleSignals();
  await runAsProgram({ name: "deno task compile", options, run: compile });
}

async function compile(values: OptionValues<typeof options>): Promise<void> {
  const out = values.out ?? join("dist", Deno.build.os === "windows" ? "tilereel.exe" : "tilereel");
  await checkWritable(out, { asFile: true });
  const folder = Deno.makeTempDirSync({ prefix: "tilereel-compile-" });
  const remove = () => Deno.removeSync(folder, { recursive: true });
  try {
    using _ = new Farewell(remove);
    await stageProgram(folder);
    const obstacle = values["self-extracting"] ? "it was not asked for" : await denoCompile(folder, out);
    if (obstacle !== undefined) {
      console.log(`deno compile was not used: ${obstacle}.`);
      console.log("Making a self-extracting executable of this Deno and the bundled program instead.");
      await writeSelfExtracting(folder, out);
    }
  } finally {
    remove();
  }
  console.log(`${out}: ${((await Deno.stat(out)).size / 1e6).toFixed(1)} MB`);
  console.log(`Try it: ${resolve(out)} generate "a red circle moving right on a black background"`);
}

/** Runs `deno compile` on the program in `folder`. Returns the reason if it failed. */
export async function denoCompile(folder: string, out: string): Promise<string | undefined> {
  if (!Deno.env.has("DENORT_BIN")) {
    try {
      const response = await fetch(DENORT_HOST, { method: "HEAD", signal: AbortSignal.timeout(PROBE_MS) });
      await response.body?.cancel();
    } catch {
      return `denort cannot be downloaded, since ${new URL(DENORT_HOST).host} cannot be reached`;
    }
  }
  const included = [...Deno.readDirSync(folder)].map(({ name }) => `--include=${join(folder, name)}`).sort();
  const args = ["compile", ...RUN_FLAGS, "--no-check", "--no-config", "--quiet", ...included];
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...args, "--output", out, join(folder, "tilereel.js")],
    stdin: "null",
    env: { NO_COLOR: "1" },
  }).output();
  if (success) return undefined;
  const lines = new TextDecoder().decode(stderr).split("\n").map((line) => line.trim());
  return `it failed with "${
    lines.find((line) => line.startsWith("error:")) ?? lines.find((line) => line) ?? "no word"
  }"`;
}
