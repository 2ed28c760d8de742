import { TilereelError } from "../../gpu/common/errors.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import { clipOptions } from "../../tools/program/clip/clip_options.ts";
import { clipValuesOf } from "../../tools/program/clip/clip_settings.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { planComparison } from "../compare/plan.ts";
import { readySettings } from "../compare/ready_setting.ts";
import { runComparison } from "../compare/run_comparison.ts";
import { imageOptions } from "../../tools/program/clip/image_options.ts";
import { chosenShard, shardOption, shardWords, tellShard, withShard } from "../shards/shard.ts";
import { methodOptions } from "../../tools/program/clip/method_options.ts";
import { parseSetting, type Setting, setting } from "../../tools/program/clip/setting.ts";
import { studySettings } from "../../tools/program/clip/study.ts";
import { printedTable, tableOf } from "../compare/table.ts";
import { flag, many, type OptionValues, path } from "../../tools/program/options.ts";
import { modelOptions } from "../../tools/program/model_options.ts";
import { commandLine } from "../../tools/program/command_line.ts";
import { openLongRun } from "../../tools/program/long_run.ts";
import { reportFiles, writeReport } from "../report/write_report.ts";

const options = {
  setting: many(setting({
    group: "Settings",
    short: "s",
    value: '"WORDS"',
    completion: methodOptions.attention.choices,
    help: "One of the settings to compare; give it several times. A setting is a kind of attention and key=value " +
      'pairs, such as "vorta tau=0.5", whose keys are the attention and sampling options of generate. "NAME: ' +
      'WORDS" gives it a name. All clips are measured against those of the first setting.',
    elsewhere: ["settings", "attention", "router", "tau"],
    default: "full and vorta; if the model has no router, full, sliding and coreset; for FastWan full and vsa",
  })),
  study: flag({
    group: "Settings",
    help: "Also compare the settings of the study in docs/quality.md, after full attention: methods at several " +
      "densities, what is as sparse at random or without training, and each branch alone.",
  }),
  out: path({
    group: "Output",
    short: "o",
    value: "DIR",
    help: "Folder of the page, the table and the clips. Existing clips are kept: run the command again to add a " +
      "setting or a prompt, or to continue after Ctrl-C.",
    default: "out/compare-<prompt>-<seed>",
  }),
  quiet: flag({ group: "Output", short: "q", help: "Print nothing but errors." }),
  ...modelOptions,
  prompts: path({
    group: "Prompts",
    short: "p",
    value: "FILE",
    help: 'Compare on many prompts: a file as for generate, whose "out" has no effect here.',
  }),
  shard: shardOption(
    "Compare a part of --prompts in this process, and the others elsewhere. The shard that finds all clips there writes " +
      "the page and the table; so that one table can measure them, all GPUs must be of one kind.",
  ),
  ...clipOptions,
  ...imageOptions,
  seed: { ...clipOptions.seed, help: "Seed of the noise, the same for all settings.", default: "0" },
};

type Values = OptionValues<typeof options>;

/** `tilereel compare`: renders the same prompts and seeds under several settings. */
export const command = defineCommand({
  name: "tilereel compare",
  description: "Renders the same prompts and seeds with several settings. Writes a table of seconds, density, PSNR, " +
    "SSIM and flicker, the clips side by side, and one page with all of it.",
  positional: "PROMPT",
  options,
  notes: "Beside each clip, NAME.rgb.gz holds its frames without loss (3 bytes per pixel before compression), " +
    "so that settings can be added later and measured against it. If it is removed, the clip is rendered " +
    "again when it is needed.",
  examples: {
    'tilereel compare "a red circle moving right on a black background"': "Compares full attention and VORTA.",
    'tilereel compare "a blue square" -s full -s "vorta tau=0.5" -s "sliding tile=2x2x2" -s "few: full steps=10"':
      "Compares four settings, the last with a name.",
    "tilereel compare --prompts prompts.txt --out study":
      "Compares on many prompts; if you add a setting, only that is rendered.",
    "tilereel compare --prompts prompts.txt --out study --shard 2/4":
      "Renders a quarter of that, as one of four processes.",
  },
  run,
});

/** The settings that were asked for, if any. */
function settingsOf({ setting: given, study = false }: Values): readonly Setting[] | undefined {
  return study ? [...given ?? [parseSetting("full", "--study")], ...studySettings()] : given;
}

async function run(values: Values, [prompt]: readonly string[]): Promise<number> {
  const { quiet = false } = values;
  if (values.shard !== undefined && values.prompts === undefined) {
    throw new TilereelError("--shard is a part of --prompts FILE, which is missing: add it");
  }
  const plan = await planComparison(prompt, values, clipValuesOf(values));
  const settings = await readySettings(settingsOf(values), values.model ?? embeddedModelDir());
  using work = await openLongRun({
    ...{ quiet, values, precision: values.precision ?? "auto" },
    stopping: "Stopping soon; Ctrl-C again stops at once. Finished clips are kept.",
  });
  const { say } = work;
  const shard = values.prompts === undefined ? undefined : chosenShard(values.shard, work.note);
  let done = 0, total = plan.prompts.length * settings.length;
  const running = runComparison(plan, settings, values, work, {
    shard,
    onStart: (own, all) => {
      total = own;
      if (shard) tellShard(shard, "clip", own, all, work);
    },
    onClip: (count) => done = count,
  });
  const result = await work.unlessStopped(running);
  if (!result) {
    const again = shard?.from === undefined ? commandLine() : `${commandLine()} ${shardWords(shard)}`;
    say(`Stopped with ${done} of ${total} clips, which are kept. Continue with:\n  ${again}`);
    return work.status!;
  }
  const { comparison, left: others } = result;
  if (!comparison) {
    say(withShard(
      shard!,
      `${total} clips are there. The page is written by the shard that finds those of all prompts, and ${others} of ` +
        `${plan.prompts.length} prompts still lack some.`,
      plan.folder,
    ));
    return 0;
  }
  const left = await writeReport(plan.folder, comparison), { page, table } = reportFiles(plan.folder);
  say(printedTable(tableOf(comparison.prompts)));
  say(
    `${page}: the page${
      left === 0 ? "" : `, without the clips of the last ${left} prompts, because it would be too large`
    }`,
  );
  say(`${table}: the numbers`);
  return 0;
}
