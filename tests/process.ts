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
  const config = ["--config", join(ROOT, "deno.json")];
  return ["run", "-A", "--no-prompt", "--no-check", "--quiet", ...config, join(ROOT, module), ...args];
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

/** Starts a module, to be waited for and ended from outside. */
export function start(dir: string, module: string, args: readonly string[], env: Record<string, string> = {}) {
  const process = new Deno.Command(Deno.execPath(), {
    args: program(module, args),
    cwd: dir,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1", ...env },
  }).spawn();
  let [out, err, ended] = ["", "", false];
  const read = async (stream: ReadableStream<Uint8Array>, add: (text: string) => void) => {
    const decoder = new TextDecoder();
    for await (const bytes of stream) add(decoder.decode(bytes, { stream: true }));
  };
  const output = (async () => {
    await Promise.all([read(process.stdout, (text) => out += text), read(process.stderr, (text) => err += text)]);
    const { code } = await process.status;
    return { code, out, err };
  })();
  process.status.then(() => ended = true);
  return {
    process,
    output,
    /** Waits for something that this process does. */
    async until(happened: (err: string, out: string) => boolean | Promise<boolean>): Promise<void> {
      while (!await happened(err, out) && !ended) await new Promise((resolve) => setTimeout(resolve, 10));
      assert(!ended, `it ended by itself: ${err}`);
    },
  };
}
