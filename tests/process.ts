/**
 * Runs the command line as a user does: as a process of its own, into a folder that is thrown away.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";

/** The checkout. */
export const ROOT = join(import.meta.dirname!, "..");
/** The embedded demo model. */
export const MODEL = join(ROOT, "model/demo");
/** Options for a clip that is made in about a second. */
export const QUICK = ["--size", "32x32", "--frames", "5", "--steps", "1", "--guidance", "1"] as const;

/** How a process ended. */
export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a program to its end. */
export async function execute(program: string, args: readonly string[], options: Deno.CommandOptions = {}) {
  const { code, stdout, stderr } = await new Deno.Command(program, { args: [...args], stdin: "null", ...options })
    .output();
  return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
}

/** A command line that runs `module` of the checkout under this Deno. */
export function program(module: string, args: readonly string[]): string[] {
  // Quiet: downloads of a cold cache are not the program's own words.
  return ["run", "-A", "--no-check", "--quiet", "--config", join(ROOT, "deno.json"), join(ROOT, module), ...args];
}

/** Runs the command line from the checkout. */
export async function tilereel(args: readonly string[], options: Deno.CommandOptions = {}): Promise<Outcome> {
  const env = { NO_COLOR: "1", ...options.env };
  return await execute(Deno.execPath(), program("cli/main.ts", args), { ...options, env });
}

/** Checks that a process ended with exit status 1 and one sentence on the standard error that contains `message`. */
export function assertRefused({ code, out, err }: Outcome, message: string): void {
  assertEquals({ code, out, lines: err.split("\n").length }, { code: 1, out: "", lines: 2 }, err);
  assert(err.startsWith("tilereel: "), err);
  assertStringIncludes(err, message);
}

/** Names of all files in a folder and those in it, hidden ones too. */
export function listFiles(dir: string): string[] {
  return [...Deno.readDirSync(dir)].flatMap(({ name, isDirectory }) =>
    isDirectory ? [`${name}/`, ...listFiles(join(dir, name)).map((inner) => `${name}/${inner}`)] : [name]
  ).sort();
}

/** Runs a test in a new folder. */
export async function inTempDir(test: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "tilereel-test-" });
  try {
    await test(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}
