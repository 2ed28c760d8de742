/**
 * `deno task soak`: hours of work in one process, while what the process holds is watched. The work is that of the command
 * line. Linux only.
 *
 * @module
 */
import { main } from "../../cli/program.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import { integer, number, type OptionValues } from "../program/options.ts";
import { runAsProgram } from "../program/run_command.ts";
import { handleSignals } from "../program/signals.ts";
import { textTable } from "../program/text_table.ts";
import { countBuffers } from "./live_buffers.ts";

const CLIPS = 2000, MINUTES = 60;
/** Rows of the table. */
const ROWS = 12;

const options = {
  clips: integer({ help: "Number of clips.", default: CLIPS, min: 1 }),
  minutes: number({ help: "Minutes of training.", default: MINUTES, above: 0 }),
};

/** What the process holds. */
interface Held {
  readonly minutes: number;
  /** Files that were written so far, or steps that were made. */
  readonly done: number;
  readonly resident: number;
  readonly heap: number;
  readonly files: number;
  readonly buffers: number;
  readonly bufferBytes: number;
}

if (import.meta.main) {
  handleSignals();
  await runAsProgram({
    name: "deno task soak",
    description: "Works for long in one process, and shows what the process holds meanwhile.",
    positional: "clips|training",
    options,
    run,
  });
}

async function run({ clips = CLIPS, minutes = MINUTES }: OptionValues<typeof options>, [work]: readonly string[]) {
  if (work !== "clips" && work !== "training") throw new TilereelError("name the work: clips or training");
  const folder = await Deno.makeTempDir({ prefix: "tilereel-soak-" }), held: Held[] = [];
  const buffers = countBuffers(), start = performance.now();
  const log = `${folder}/out/metrics.jsonl`;
  const look = async () => {
    const done = work === "clips" ? await countClips(`${folder}/out`) : await countLines(log);
    const now = { minutes: (performance.now() - start) / 60_000, done, ...ownMemory() };
    held.push({ ...now, buffers: buffers.count, bufferBytes: buffers.bytes });
    console.error(rowOf(held.at(-1)!).join("  "));
  };
  // Often enough for short work; the table has some of them.
  const timer = setInterval(look, 15_000);
  try {
    const status = work === "clips" ? await makeClips(folder, clips) : await train(folder, minutes);
    await look();
    console.log(textTable([
      ["minutes", work === "clips" ? "clips" : "steps", "resident", "heap", "open files", "buffers", "on the GPU"],
      ...spread(held).map(rowOf),
    ]));
    return status;
  } finally {
    clearInterval(timer);
    await Deno.remove(folder, { recursive: true });
  }
}

/** Clips of several sizes, formats and kinds of attention, by one command. */
async function makeClips(folder: string, clips: number): Promise<number> {
  const attentions = ["full", "vorta", "veda"], endings = [".mp4", ".gif", ".png", "/"];
  const lines = Array.from({ length: clips }, (_, i) =>
    JSON.stringify({
      ...{ prompt: `a red circle ${i}`, seed: i, steps: 1 + i % 2, guidance: 1 + i % 3, frames: 5 },
      ...{ size: i % 5 === 0 ? "64x64" : "32x32", attention: attentions[i % 3], out: `${i}${endings[i % 4]}` },
    }));
  await Deno.writeTextFile(`${folder}/prompts.jsonl`, lines.join("\n"));
  return await main(["generate", "--prompts", `${folder}/prompts.jsonl`, "--out", `${folder}/out`, "--quiet"]);
}

/** A training of a router, which is asked to stop when the time is over. */
async function train(folder: string, minutes: number): Promise<number> {
  await Deno.writeTextFile(`${folder}/prompts.txt`, "a red circle\na blue square\n");
  const stop = setTimeout(() => Deno.kill(Deno.pid, "SIGINT"), minutes * 60_000);
  try {
    const place = ["--prompts", `${folder}/prompts.txt`, "--out", `${folder}/out`, "--cache", `${folder}/latents`];
    const clip = ["--size", "64x64", "--frames", "13", "--sampling-steps", "2", "--guidance", "1", "--seed", "1"];
    const length = ["--steps", "1000000", "--checkpoint-every", "20", "--quiet"];
    const status = await main(["train", "router", ...place, ...clip, ...length]);
    return status === 130 ? 0 : status;
  } finally {
    clearTimeout(stop);
  }
}

async function countClips(folder: string): Promise<number> {
  const names = await Array.fromAsync(Deno.readDir(folder)).catch(() => []);
  return names.filter(({ name }) => !name.startsWith(".")).length;
}

async function countLines(file: string): Promise<number> {
  return (await Deno.readTextFile(file).catch(() => "")).split("\n").length - 1;
}

function ownMemory(): Pick<Held, "resident" | "heap" | "files"> {
  const { rss: resident, heapUsed: heap } = Deno.memoryUsage();
  return { resident, heap, files: [...Deno.readDirSync("/proc/self/fd")].length };
}

/** The second look, the last, and some between. At the first, the work has hardly begun. */
function spread(held: readonly Held[]): readonly Held[] {
  const shown = held.length > 1 ? held.slice(1) : held, last = shown.length - 1;
  const rows = Math.min(ROWS, shown.length);
  return Array.from({ length: rows }, (_, i) => shown[rows === 1 ? 0 : Math.round(i * last / (rows - 1))]!);
}

function rowOf({ minutes, done, resident, heap, files, buffers, bufferBytes }: Held): string[] {
  const sizes = [formatBytes(resident), formatBytes(heap), String(files), String(buffers), formatBytes(bufferBytes)];
  return [minutes.toFixed(1), String(done), ...sizes];
}
