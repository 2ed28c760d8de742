/**
 * What `tools/gpu_machine/run.sh` measured beside what the project aims at.
 *
 *     deno run -A bench/targets.ts FOLDER...      folders that results.tar.gz of one or more calls were unpacked in
 *
 * @module
 */
import { slug } from "../tools/program/clip/slug.ts";
import { TilereelError } from "../gpu/common/errors.ts";
import { runAsProgram } from "../tools/program/run_as_program.ts";
import { markdownTable } from "./table.ts";
import { type Measured, readMeasured } from "./targets/measured.ts";
import { targetRows } from "./targets/rows.ts";

if (import.meta.main) {
  await runAsProgram({
    command: "deno run -A bench/targets.ts",
    options: {},
    positionals: "FOLDER...",
    run: async (_, folders) => {
      if (folders.length === 0) throw new TilereelError("name a folder with results: targets.ts FOLDER...");
      console.log(report(await readMeasured(folders)));
    },
  });
}

/** The tables: quality where it was measured, jobs that did not end well, then the targets, last. */
export function report(measured: Measured): string {
  const parts = [torch(measured), quality(measured), failures(measured), targets(measured)];
  return parts.filter((part) => part !== "").join("\n\n");
}

function targets(measured: Measured): string {
  return markdownTable([
    ["what", "target", "measured", "of the ceiling", ""],
    ...targetRows(measured).map(({ what, target, measured, ceiling, pass }) => [
      what,
      target,
      measured,
      ceiling ?? "",
      pass === undefined ? "" : pass ? "pass" : "MISS",
    ]),
  ]);
}

/** The kernels that everyone knows, for scale. */
function torch({ torch }: Measured): string {
  const rows = torch.flatMap(({ results }) => results).filter(({ tflops }) => tflops !== undefined);
  if (rows.length === 0) return "";
  return markdownTable([
    ["PyTorch, bf16", "ms", "TFLOP/s"],
    ...rows.map(({ shape, what, ms, tflops }) => [`${shape}: ${what}`, ms!.toFixed(2), tflops!.toFixed(0)]),
  ]);
}

/** By setting, over the prompts of all runs; the judge's attributes beside. */
function quality({ quality, judge }: Measured): string {
  if (quality.length === 0) return "";
  const settings = Map.groupBy(quality.flatMap(({ results }) => results), ({ setting }) => setting);
  const attributes = [...new Set(judge.flatMap(({ shares }) => Object.keys(shares)))];
  return markdownTable([
    ["attention", "clips", "density", "PSNR, dB", "SSIM", "flicker", ...attributes],
    ...[...settings].map(([setting, runs]) => {
      const clips = runs.flatMap(({ clips }) => clips);
      const mean = (of: (clip: (typeof clips)[number]) => number, decimals: number) =>
        clips.length === 0 ? "" : (clips.reduce((sum, clip) => sum + of(clip), 0) / clips.length).toFixed(decimals);
      const shares = judge.find((run) => run.setting === slug(setting))?.shares;
      return [
        setting,
        clips.length === 0 ? "" : String(clips.length),
        `${(100 * runs[0]!.report.density).toFixed(1)}%`,
        mean(({ psnr }) => psnr, 2),
        mean(({ ssim }) => ssim, 4),
        mean(({ flicker }) => flicker, 3),
        ...attributes.map((name) => shares?.[name] ? `${(100 * shares[name][0]).toFixed(1)}%` : ""),
      ];
    }),
  ]);
}

function failures({ jobs }: Measured): string {
  const bad = jobs.filter(({ status }) => status !== "0");
  return bad.map(({ name, status, seconds }) =>
    `Job ${name}: ${
      /^\d+$/.test(status)
        ? `${status === "124" ? "stopped at its limit" : `exit ${status}`} after ${seconds} s`
        : status
    }.`
  ).join("\n");
}
