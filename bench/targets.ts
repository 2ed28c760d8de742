/**
 * Shows the targets of the project beside the results of `tools/gpu_machine/run.sh`.
 *
 *     deno run -A bench/targets.ts FOLDER...      folders that results.tar.gz of one or more calls were unpacked in
 *
 * @module
 */
import { slug } from "../tools/program/clip/slug.ts";
import { runAsProgram } from "../tools/program/run_command.ts";
import { TilereelError } from "../gpu/common/errors.ts";
import { Results } from "./figures/measured.ts";
import { figuresTable } from "./figures/rows.ts";
import { headlineTables } from "./headline.ts";
import { mean, percent, tableOf } from "./table.ts";
import { type Measured, readMeasured } from "./targets/measured.ts";
import { targetRows } from "./targets/rows.ts";

if (import.meta.main) {
  await runAsProgram({
    name: "deno run -A bench/targets.ts",
    options: {},
    positional: "FOLDER...",
    run: (_, folders) => {
      if (folders.length === 0) {
        throw new TilereelError("a folder with results is missing; name one: targets.ts FOLDER...");
      }
      console.log(report(readMeasured(folders)));
      return Promise.resolve();
    },
  });
}

/** The tables of PyTorch, of whole clips and of quality where they were measured, the jobs that failed, and the targets. */
export function report(measured: Measured): string {
  const targets = tableOf(targetRows(measured), {
    "what": (row) => row.what,
    "target": (row) => row.target,
    "measured": (row) => row.measured,
    "of the ceiling": (row) => row.ceiling ?? "",
    "": ({ pass }) => pass === undefined ? "" : pass ? "pass" : "MISS",
  });
  const headline = measured.headline.map(headlineTables);
  const figures = measured.figures.length > 0
    ? figuresTable(new Results({ runs: measured.figures, torch: measured.torch }))
    : "";
  return [torch(measured), ...headline, quality(measured), failures(measured), targets, figures].filter((part) =>
    part !== ""
  )
    .join("\n\n");
}

/** PyTorch's matrix products and attention, for comparison. */
function torch({ torch }: Measured): string {
  const rows = torch.flatMap(({ results }) => results).filter(({ tflops }) => tflops !== undefined);
  return rows.length === 0 ? "" : tableOf(rows, {
    "PyTorch, bf16": ({ shape, what }) => `${shape}: ${what}`,
    "ms": ({ ms }) => ms!.toFixed(2),
    "TFLOP/s": ({ tflops }) => tflops!.toFixed(0),
  });
}

/** For each setting the means over the prompts of all runs, and the judge's attributes. */
function quality({ quality, judge }: Measured): string {
  if (quality.length === 0) return "";
  const runs = Map.groupBy(quality.flatMap(({ results }) => results), ({ setting }) => setting);
  const settings = [...runs].map(([setting, runs]) => ({
    setting,
    density: runs[0]!.clips[0]!.density,
    clips: runs.flatMap(({ clips }) => clips),
    shares: judge.find((run) => run.setting === slug(setting))?.shares ?? {},
  }));
  type Setting = (typeof settings)[number];
  const attributes = [...new Set(judge.flatMap(({ shares }) => Object.keys(shares)))];
  return tableOf(settings, {
    "attention": ({ setting }) => setting,
    "clips": ({ clips }) => clips.length === 0 ? "" : String(clips.length),
    "density": ({ density }) => percent(density),
    "PSNR, dB": ({ clips }) => mean(clips.map(({ psnr }) => psnr).filter((x) => typeof x === "number"), 2),
    "SSIM": ({ clips }) => mean(clips.map(({ ssim }) => ssim).filter((x) => x !== undefined), 4),
    "flicker": ({ clips }) => mean(clips.map(({ flicker }) => flicker).filter((x) => x !== undefined), 3),
    ...Object.fromEntries(
      attributes.map((name) => [name, ({ shares }: Setting) => shares[name] ? percent(shares[name][0]) : ""]),
    ),
  });
}

function failures({ jobs }: Measured): string {
  const ended = (status: string) => status === "124" ? "stopped at its limit" : `exit ${status}`;
  return jobs.filter(({ status }) => status !== "0").map(({ name, status, seconds }) =>
    `Job ${name}: ${/^\d+$/.test(status) ? `${ended(status)} after ${seconds} s` : status}.`
  ).join("\n");
}
