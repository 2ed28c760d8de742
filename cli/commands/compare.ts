/**
 * `tilereel compare`: the same prompts and seeds under several settings.
 *
 * @module
 */
import { embeddedModelDir } from "../../model/embedded.ts";
import { clipOptions } from "../../tools/program/clip/clip_options.ts";
import { clipValuesOf } from "../../tools/program/clip/clip_settings.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { planComparison } from "../compare/plan.ts";
import { readySettings } from "../compare/ready_setting.ts";
import { runComparison } from "../compare/run_comparison.ts";
import { setting } from "../../tools/program/clip/setting.ts";
import { printedTable, tableOf } from "../compare/table.ts";
import { gpuOptions, openGpuAsAsked, precisionOption } from "../../tools/program/gpu_options.ts";
import { flag, many, memory, type OptionValues, path } from "../../tools/program/options.ts";
import { type ProgressDisplay, showProgress } from "../../tools/program/progress.ts";
import { weightDtypeOption, weightsLine, weightsOption } from "../../tools/program/weights_options.ts";
import { Interruption } from "../../tools/program/signals.ts";
import { lineOf } from "../training/next_commands.ts";
import { writeReport } from "../report/write_report.ts";

const options = {
  setting: many(setting({
    group: "Settings",
    short: "s",
    value: '"WORDS"',
    completion: ["full", "vorta", "veda", "sliding", "coreset"],
    help: "One of the settings to compare; give it several times. A kind of attention and key=value, as in " +
      '"vorta tau=0.5", with the options of generate about attention and sampling as keys; "NAME: WORDS" gives it a ' +
      "name. The others are measured against the first.",
    elsewhere: ["settings", "attention", "router", "tau"],
    default: "full and vorta; full, sliding and coreset where the model has no router",
  })),
  out: path({
    group: "Output",
    short: "o",
    value: "DIR",
    help: "Folder of the page, the table and the clips. Clips that it has already are kept, so you can add a setting " +
      "or a prompt, or continue after Ctrl-C, by running the command again.",
    default: "out/compare-<prompt>-<seed>",
  }),
  quiet: flag({ group: "Output", short: "q", help: "Print nothing but errors." }),
  model: path({
    group: "Model",
    short: "m",
    value: "DIR",
    help: "Folder of a Wan 2.1 text-to-video model in the diffusers layout.",
    default: "the embedded demo model",
  }),
  "text-encoder": path({
    group: "Model",
    value: "FILE.onnx",
    help: "Run this ONNX file as the text encoder instead of the model's own.",
  }),
  precision: precisionOption("Model"),
  memory: memory({
    group: "Model",
    value: "LIMIT",
    help: "GPU memory that may be used, as for generate.",
    default: "no limit; plans go by 8 GB",
  }),
  weights: weightsOption,
  "weight-dtype": weightDtypeOption,
  ...gpuOptions("Model"),
  prompts: path({
    group: "Prompts",
    short: "p",
    value: "FILE",
    help: 'Compare over many: a file as for generate (its "out" does not count here).',
  }),
  ...clipOptions,
  seed: { ...clipOptions.seed, help: "Start of the noise, the same for every setting.", default: "0" },
};

type Values = OptionValues<typeof options>;

/** The command `tilereel compare`. */
export const command = defineCommand({
  name: "compare",
  description:
    "Renders the same prompts and seeds under several settings: a table of seconds, density, PSNR and SSIM, " +
    "the clips side by side, and a page with all of it in one file.",
  positionals: "PROMPT",
  maxPositionals: 1,
  options,
  notes:
    "Beside each clip NAME.rgb.gz holds its frames without loss (3 bytes a pixel before compression), for settings " +
    "that are added later to be measured against. It may be removed: the clip is then rendered again when you compare.",
  examples: [
    { line: 'tilereel compare "a red circle moving right on a black background"', does: "Full attention and VORTA." },
    {
      line:
        'tilereel compare "a blue square" -s full -s "vorta tau=0.5" -s "sliding tile=2x2x2" -s "few: full steps=10"',
      does: "Four settings, the last with a name.",
    },
    {
      line: "tilereel compare --prompts prompts.txt --out study",
      does: "Many prompts; run it again with one more setting to render only that.",
    },
  ],
  run,
});

async function run(values: Values, [prompt]: readonly string[]): Promise<number> {
  const { quiet = false } = values;
  const say = (line: string) => {
    if (!quiet) console.log(line);
  };
  const plan = await planComparison({
    values: clipValuesOf(values),
    ...prompt !== undefined && { prompt },
    ...values.prompts !== undefined && { prompts: values.prompts },
    ...values.out !== undefined && { out: values.out },
  });
  const settings = await readySettings(values.setting, values.model ?? embeddedModelDir());
  using cleanUp = new DisposableStack();
  const progress = quiet ? SILENT : showProgress();
  cleanUp.defer(() => progress.stop());
  const gpu = await openGpuAsAsked(values, progress.onProgress, { brief: values.model === undefined });
  cleanUp.defer(() => gpu.close());
  const interruption = cleanUp.use(new Interruption());
  interruption.signal.addEventListener("abort", () => {
    progress.stop();
    if (!quiet) console.error("Stopping soon; Ctrl-C again stops at once. Finished clips are kept.");
  });
  let done = 0;
  const noted = new Set<string>();
  const comparison = await runComparison(plan, settings, {
    gpu,
    ...values.model !== undefined && { model: values.model },
    ...values.weights !== undefined && { weights: values.weights },
    ...values["weight-dtype"] !== undefined && { weightDtype: values["weight-dtype"] },
    ...values["text-encoder"] !== undefined && { textEncoder: values["text-encoder"] },
    commandLine: lineOf(...Deno.args),
    onProgress: progress.onProgress,
    onLoaded: (placement) => {
      const streamed = weightsLine(placement);
      progress.stop();
      if (streamed) say(streamed);
    },
    onNote: (note) => {
      progress.stop();
      if (!quiet && !noted.has(note)) console.error(`Note: ${note}.`);
      noted.add(note);
    },
    onKept: (kept, total) => {
      if (kept > 0) say(`${kept} of ${total} clips are there already and are kept.`);
    },
    onClip: (count) => done = count,
    signal: interruption.signal,
  }).catch((error) => {
    if (interruption.status === undefined || error !== interruption.signal.reason) throw error;
  });
  progress.stop();
  if (!comparison) {
    const total = plan.prompts.length * settings.length;
    say(`Stopped with ${done} of ${total} clips, which are kept. Continue with:\n  ${lineOf(...Deno.args)}`);
    return interruption.status!;
  }
  const { page, table, left } = await writeReport(plan.folder, comparison);
  say(printedTable(tableOf(comparison.prompts)));
  say(
    `${page}: the page${
      left === 0 ? "" : `, without the clips of the last ${left} prompts, which would make it too large`
    }`,
  );
  say(`${table}: the numbers`);
  return 0;
}

const SILENT: ProgressDisplay = { onProgress: () => {}, stop: () => {} };
