import { resolve } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { type ProfiledDispatch, Profiler } from "../../gpu/profile/profiler.ts";
import { gapsBetween, kernelTimes, stretchesOf } from "../../gpu/profile/summary.ts";
import { traceOf } from "../../gpu/profile/trace.ts";
import { path } from "./options.ts";
import { checkWritable, placeOf, writeAtomically } from "../../model/files/output.ts";
import { textTable } from "./text_table.ts";

/** The number of kernels, and of gaps between kernels, in the summary. */
const LISTED = 10, LISTED_GAPS = 5;

/** `--profile FILE`: the GPU's work as a trace for chrome://tracing and Perfetto, and as a short summary. */
export const profileOption = path({
  value: "FILE.json",
  help: "Write a trace of the kernels that ran on the GPU, which chrome://tracing and ui.perfetto.dev show, " +
    "and print a summary. Every kernel is timed separately, which makes small models slower.",
  elsewhere: ["trace", "profiler"],
});

/** A profile under way. */
export interface RunningProfile extends Disposable {
  /** Writes the file. @returns the summary, a line or more */
  finish(): Promise<string>;
}

/**
 * Checks that a profile could be written, before any work.
 *
 * @param others files that the command writes too
 * @throws {TilereelError} when it could not
 */
export async function checkProfile(file: string, others: readonly string[] = []): Promise<void> {
  await checkWritable(file, { asFile: true });
  const place = await placeOf(resolve(file));
  for (const other of others) {
    if (await placeOf(resolve(other)) !== place) continue;
    throw new TilereelError(`--profile ${file} would replace the clip that is written there: name another file`);
  }
}

/**
 * Profiles what a `Gpu` does from now on.
 *
 * @param file see {@link checkProfile}
 * @throws {TilereelError} if the adapter has no timestamps
 */
export async function startProfile(gpu: Gpu, file: string): Promise<RunningProfile> {
  const profiler = await Profiler.start(gpu);
  const { name } = gpu.settings.description;
  return {
    finish: async () => {
      const dispatches = await profiler.take();
      const trace = traceOf(dispatches, `tilereel on ${name}`);
      await writeAtomically(file, (temporary) => Deno.writeTextFile(temporary, trace));
      return profileSummary(dispatches, file);
    },
    [Symbol.dispose]: () => profiler.stop(),
  };
}

/** Busy time and gaps of each stretch, the kernels that took most of it, and where most gaps are. */
export function profileSummary(dispatches: readonly ProfiledDispatch[], file: string): string {
  const stretches = stretchesOf(dispatches), kernels = kernelTimes(dispatches);
  const busy = stretches[0]!.busy;
  const rows = stretches.map((s) => [s.name, ms(s.span), percent(s.busy, s.span), percent(s.span - s.busy, s.span)]);
  const top = kernels.slice(0, LISTED).map((k) => [k.kernel, String(k.count), ms(k.time), percent(k.time, busy)]);
  const between = gapsBetween(dispatches).filter(({ time }) => time > 0).slice(0, LISTED_GAPS)
    .map((g) => [g.before, g.after, String(g.count), ms(g.time), ms(g.longest)]);
  return [
    `${file}: the profile of ${dispatches.length} dispatches of ${kernels.length} kernels`,
    textTable([["part", "ms", "GPU busy", "gaps"], ...rows], 1),
    textTable([["kernel", "dispatches", "ms", "of busy time"], ...top], 1),
    ...between.length > 0 ? [textTable([["gaps behind", "before", "gaps", "ms", "longest"], ...between], 2)] : [],
  ].join("\n");
}

function ms(nanoseconds: number): string {
  return (nanoseconds / 1e6).toFixed(1);
}

function percent(part: number, whole: number): string {
  return whole === 0 ? "–" : `${(100 * part / whole).toFixed(1)} %`;
}
