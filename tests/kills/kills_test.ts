/**
 * Programs that are killed at any of their calls that change files: nothing half-written has a final name, and the same
 * command again ends with the same files as one that was never killed. TILEREEL_KILLS=all kills at every call, and
 * TILEREEL_KILLS=100 at a hundred of each program.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ID, SmallHub } from "../cli/small_hub.ts";
import { inTempDir, listFiles, MODEL, program, QUICK } from "../process.ts";
import { CAN_KILL, KillPoints } from "./kill_points.ts";

const asked = Deno.env.get("TILEREEL_KILLS");
/** The number of kills of each program, spread over its points. */
const KILLS = asked === "all" ? Infinity : Number(asked ?? 3);

type Files = Readonly<Record<string, Uint8Array>>;

/** A program, and what it leaves behind. */
interface Killed {
  readonly args: (dir: string) => string[];
  /** Names of files that grow while it runs. */
  readonly growing?: readonly string[];
  /** Files that have times in them. */
  readonly timed?: RegExp;
  /** Whether it is left out of the usual tests, because it takes several seconds. */
  readonly isSlow?: true;
  /** Whether it downloads. */
  readonly isDownload?: true;
  /** Whether it has another number of points each time, as where pieces arrive or threads write: the last may be missed. */
  readonly isVaried?: true;
}

const CLIP = { prompt: "a circle", size: "32x32", frames: 5, steps: 1, guidance: 1 };
const LINES = {
  "p.jsonl": [{ ...CLIP, seed: 1, out: "a.mp4" }, { ...CLIP, seed: 2, out: "b/" }],
  "all.jsonl": [
    ...["a.mp4", "b.gif", "c.png", "d/", "deep/in/e.mp4"].map((out, seed) => ({ ...CLIP, seed, out })),
    { ...CLIP, steps: 4, seed: 6, out: "steps.mp4" },
    { ...CLIP, size: "64x64", frames: 13, seed: 7, out: "long/" },
  ],
} as const;

const tilereel = (...args: readonly string[]) => program("cli/main.ts", args);
const SAMPLED = ["--size", "32x32", "--frames", "5", "--sampling-steps", "1", "--guidance", "1", "--seed", "1"];

/** A training of the command line, which resumes if there is a checkpoint. */
function train(kind: "router" | "tiles", steps: number, ...options: readonly string[]): Killed {
  return {
    args: (dir) => {
      const run = join(dir, "run"), resume = existsSync(join(run, "checkpoint.safetensors")) ? ["--resume"] : [];
      const given = ["--prompts", join(dir, "p.txt"), "--out", run, ...SAMPLED, "--steps", `${steps}`, ...options];
      return tilereel("train", kind, ...given, "--checkpoint-every", "1", ...resume);
    },
    growing: ["run/metrics.jsonl"],
    timed: /metrics\.jsonl$/,
    isSlow: true,
  };
}

const countTo = (steps: number): Killed => ({
  args: (dir) => program("tests/kills/count_training.ts", [join(dir, "run"), `${steps}`]),
  growing: ["run/metrics.jsonl"],
});

const convert = (format: string): Killed => ({
  args: (dir) => tilereel("convert", MODEL, join(dir, "model"), "--format", format),
});

const PROGRAMS: Readonly<Record<string, Killed>> = {
  "a batch of clips": {
    args: (dir) => tilereel("generate", "--prompts", join(dir, "p.jsonl"), "--out", dir, ...QUICK),
  },
  "a batch of clips of all kinds, with previews": {
    args: (dir) => tilereel("generate", "--prompts", join(dir, "all.jsonl"), "--out", join(dir, "out"), "--preview"),
    isSlow: true,
  },
  "a clip that is kept after every step": {
    args: (dir) => {
      const clip = ["a circle", "--seed", "1", ...QUICK, "--steps", "3", "--out", join(dir, "new/clip.gif")];
      return program("tests/keep_every_step.ts", ["generate", ...clip]);
    },
  },
  "a shard of a batch": {
    args: (dir) => tilereel("generate", "--prompts", join(dir, "p.jsonl"), "--out", dir, "--shard", "1/2", ...QUICK),
    timed: /\.tilereel\/.*\.json$/,
    isSlow: true,
  },
  "a comparison": {
    args: (dir) => {
      const settings = ["-s", "full", "-s", "sliding tile=1x1x1 window=1x1x1"];
      return tilereel("compare", "a circle", ...settings, ...QUICK, "--seed", "1", "--out", join(dir, "out"));
    },
    timed: /\.(json|html)$/,
  },
  "a server": {
    args: (dir) => program("tests/kills/serve_jobs.ts", [join(dir, "served")]),
    timed: /\.json$/,
    isVaried: true,
  },
  "a clip with a profile": {
    args: (dir) => {
      const files = ["--out", join(dir, "new/clip.gif"), "--profile", join(dir, "profile.json")];
      return tilereel("generate", "a circle", "--seed", "1", ...QUICK, ...files);
    },
    ...{ timed: /profile\.json$/, isSlow: true },
  },
  "a training": countTo(4),
  "a longer training": { ...countTo(24), isSlow: true },
  "a training of a router": {
    ...train("router", 2),
    args: (dir) => [...train("router", 2).args(dir), "--cache", join(dir, "cache")],
  },
  "a training of tile scores": train("tiles", 2),
  "a search for tiles": {
    args: (dir) => {
      const sizes = ["--size", "64x64", "--frames", "13", "--sampling-steps", "1", "--guidance", "1", "--looks", "1"];
      const files = ["--prompts", join(dir, "p.txt"), "--out", join(dir, "new/plan.safetensors")];
      return tilereel("search", "tiles", ...files, ...sizes, "--seed", "1", "--tile-tokens", "8");
    },
    isSlow: true,
  },
  "a conversion": convert("int8"),
  "a conversion to f16": { ...convert("f16"), isSlow: true },
  "a conversion to the layout of diffusers": { ...convert("diffusers"), isSlow: true },
  "a download": {
    args: (dir) => tilereel("download", ID, "--local-dir", join(dir, "model")),
    ...{ isDownload: true, isVaried: true },
  },
};

async function filesIn(dir: string): Promise<Files> {
  const files: Record<string, Uint8Array> = {};
  for (const name of listFiles(dir)) if (!name.endsWith("/")) files[name] = await Deno.readFile(join(dir, name));
  return files;
}

function without(files: Files, names: RegExp | undefined): Files {
  return Object.fromEntries(Object.entries(files).filter(([name]) => !names?.test(name)));
}

const isTemporary = (name: string) => /(^|\/)\..*\.part(\/|$)/.test(name);

for (const [name, described] of Object.entries(PROGRAMS)) {
  const { args, growing = [], timed, isSlow = false, isDownload = false, isVaried = false } = described;
  Deno.test({
    name: `${name}, killed anywhere, leaves nothing half-written, and goes on`,
    ignore: !CAN_KILL || isSlow && asked === undefined,
    fn: () =>
      inTempDir(async (dir) => {
        await using hub = isDownload ? new SmallHub() : undefined;
        const points = await KillPoints.build(dir), env = hub && { HF_ENDPOINT: hub.address };
        const run = (folder: string, at?: number) => points.run(args(folder), folder, at, env);
        const start = async (name: string) => {
          const folder = join(dir, name);
          await Deno.mkdir(folder);
          await Deno.writeTextFile(join(folder, "p.txt"), "a circle\n");
          for (const [file, lines] of Object.entries(LINES)) {
            await Deno.writeTextFile(join(folder, file), lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
          }
          return folder;
        };
        const whole = await start("whole"), { points: all, unsynced, code, err } = await run(whole);
        assertEquals([code, unsynced], [0, 0], err);
        const expected = await filesIn(whole), kills = Math.min(KILLS, all);
        assert(all >= 8, `${all} points`);
        let late = 0;
        for (let i = 0; i < kills; i++) {
          const at = Math.floor(i * all / kills) + 1, folder = await start(`killed-${at}`);
          const killed = await run(folder, at), where = `point ${at} of ${all}`;
          if (isVaried && killed.code === 0) late++;
          else assertEquals(killed.code, 137, `${where}: ${killed.err}`);
          for (const [file, bytes] of Object.entries(await filesIn(folder))) {
            if (isTemporary(file) || growing.includes(file)) continue;
            if (timed?.test(file)) {
              if (file.endsWith(".json")) JSON.parse(new TextDecoder().decode(bytes));
              continue;
            }
            // A checkpoint is whole, but of an earlier step: what goes on from it shows that.
            if (expected[file] === undefined || file.includes("checkpoint")) continue;
            assertEquals(bytes, expected[file], `${where}: ${file}`);
          }
          const again = await run(folder), isDone = /exists already/.test(again.err);
          assertEquals([again.code, again.unsynced], [isDone ? 1 : 0, 0], `${where}: ${again.err}`);
          const made = await filesIn(folder);
          assertEquals(Object.keys(made), Object.keys(expected), where);
          assertEquals(without(made, timed), without(expected, timed), where);
          await Deno.remove(folder, { recursive: true });
        }
        console.log(`${kills - late} kills at ${all} points`);
      }),
  });
}
