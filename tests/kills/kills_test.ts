/**
 * Programs that are killed at any of their calls that change files: nothing half-written has a final name, and the same
 * command again ends with the same files as one that was never killed. TILEREEL_KILLS=all kills at every call.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { inTempDir, listFiles, MODEL, program, QUICK } from "../process.ts";
import { CAN_KILL, KillPoints } from "./kill_points.ts";

/** The number of kills of each program, spread over its calls. */
const KILLS = Deno.env.get("TILEREEL_KILLS") === "all" ? Infinity : 4;

type Files = Readonly<Record<string, Uint8Array>>;

/** A program, and what it leaves behind. */
interface Killed {
  readonly args: (dir: string) => string[];
  /** Names of files that grow while it runs. */
  readonly growing?: readonly string[];
  /** Names of files that have times in them. */
  readonly timed?: readonly string[];
  /** Whether it is left out of the usual tests, because it takes several seconds. */
  readonly isSlow?: true;
}

const PROGRAMS: Readonly<Record<string, Killed>> = {
  "a batch of clips": {
    args: (dir) => program("cli/main.ts", ["generate", "--prompts", join(dir, "p.jsonl"), "--out", dir, ...QUICK]),
  },
  "a training": {
    args: (dir) => program("tests/kills/count_training.ts", [join(dir, "run")]),
    growing: ["run/metrics.jsonl"],
  },
  "a training of a router": {
    args: (dir) => {
      const run = join(dir, "run"), resume = existsSync(join(run, "checkpoint.safetensors")) ? ["--resume"] : [];
      const options = ["--prompts", join(dir, "p.txt"), "--seed", "1", "--out", run, "--cache", join(dir, "cache")];
      const sizes = ["--size", "32x32", "--frames", "5", "--sampling-steps", "1", "--guidance", "1", "--steps", "2"];
      return program("cli/main.ts", ["train", "router", ...options, ...sizes, "--checkpoint-every", "1", ...resume]);
    },
    ...{ growing: ["run/metrics.jsonl"], timed: ["run/metrics.jsonl"], isSlow: true },
  },
  "a conversion": {
    args: (dir) => program("cli/main.ts", ["convert", MODEL, join(dir, "model"), "--format", "int8"]),
  },
};

async function filesIn(dir: string): Promise<Files> {
  const files: Record<string, Uint8Array> = {};
  for (const name of listFiles(dir)) if (!name.endsWith("/")) files[name] = await Deno.readFile(join(dir, name));
  return files;
}

function without(files: Files, names: readonly string[]): Files {
  return Object.fromEntries(Object.entries(files).filter(([name]) => !names.includes(name)));
}

const isTemporary = (name: string) => /(^|\/)\..*\.part(\/|$)/.test(name);

for (const [name, { args, growing = [], timed = [], isSlow = false }] of Object.entries(PROGRAMS)) {
  Deno.test({
    name: `${name}, killed anywhere, leaves nothing half-written, and goes on`,
    ignore: !CAN_KILL || isSlow && KILLS < Infinity,
    fn: () =>
      inTempDir(async (dir) => {
        const points = await KillPoints.build(dir);
        const start = async (name: string) => {
          const folder = join(dir, name);
          await Deno.mkdir(folder);
          const lines = [{ prompt: "a circle", seed: 1, out: "a.mp4" }, { prompt: "a square", seed: 2, out: "b/" }];
          await Deno.writeTextFile(join(folder, "p.txt"), "a circle\n");
          await Deno.writeTextFile(join(folder, "p.jsonl"), lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
          return folder;
        };
        const whole = await start("whole"), { calls, code, err } = await points.run(args(whole), whole);
        assertEquals(code, 0, err);
        const expected = await filesIn(whole), kills = Math.min(KILLS, calls);
        assert(calls >= 10, `${calls} calls`);
        for (let i = 0; i < kills; i++) {
          const at = Math.floor(i * calls / kills) + 1, folder = await start(`killed-${at}`);
          const killed = await points.run(args(folder), folder, at);
          assertEquals(killed.code, 137, `call ${at} of ${calls}: ${killed.err}`);
          for (const [file, bytes] of Object.entries(await filesIn(folder))) {
            if (isTemporary(file) || growing.includes(file)) continue;
            // A checkpoint is whole, but of an earlier step: what goes on from it shows that.
            if (expected[file] === undefined || file.includes("checkpoint")) continue;
            assertEquals(bytes, expected[file], `call ${at} of ${calls}: ${file}`);
          }
          const again = await points.run(args(folder), folder);
          const isDone = /exists already/.test(again.err);
          assertEquals(again.code, isDone ? 1 : 0, `call ${at} of ${calls}: ${again.err}`);
          const made = await filesIn(folder);
          assertEquals(without(made, timed), without(expected, timed), `call ${at} of ${calls}`);
          await Deno.remove(folder, { recursive: true });
        }
        console.log(`${kills} kills at ${calls} calls`);
      }),
  });
}
