/** A worker of the program starts, and finds the demo model, wherever the program lies. */
import { assertEquals } from "@std/assert";
import { join } from "node:path";
import { denoCompile } from "../../tools/compile.ts";
import { stageModules, stageProgram } from "../../tools/stage_program.ts";
import { execute, inTempDir, ROOT } from "../process.ts";

const PROGRAM = "tests/tools/worker/program.ts";
const ENTRIES = { main: PROGRAM, workers: ["tests/tools/worker/worker.ts"] };

async function assertAnswers(program: string, args: readonly string[], cwd: string): Promise<void> {
  const { code, out, err } = await execute(program, args, { cwd, env: { NO_COLOR: "1" } });
  assertEquals([code, out], [0, "is the demo model there? true\n"], err);
}

const run = (path: string) => ["run", "-A", "--quiet", "--no-config", path];

Deno.test("in a checkout", () => assertAnswers(Deno.execPath(), run(PROGRAM), ROOT));

Deno.test("in the bundled program, and in what deno compile makes of it", () =>
  inTempDir(async (dir) => {
    const folder = join(dir, "program"), binary = join(dir, "binary");
    await stageProgram(folder, ENTRIES);
    await assertAnswers(Deno.execPath(), run(join(folder, "tilereel.js")), dir);
    if (await denoCompile(folder, binary) === undefined) await assertAnswers(binary, [], dir);
  }));

Deno.test("in the npm package", () =>
  inTempDir(async (dir) => {
    const folder = join(dir, "node_modules/tilereel");
    await stageModules(folder, ENTRIES);
    await assertAnswers(Deno.execPath(), run(join(folder, PROGRAM.replace(/ts$/, "js"))), dir);
  }));
