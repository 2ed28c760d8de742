/**
 * `deno task bench:quality`: what sparse attention does to clips. Every prompt is rendered from the same noise by full
 * attention and under other settings. Clips are compared with those of full attention, and written for
 * tools/demo/judge.py.
 *
 * @module
 */
import { readyMethods } from "../tools/program/clip/method_options.ts";
import { clipOptions } from "../tools/program/clip/clip_options.ts";
import { clipValuesOf } from "../tools/program/clip/clip_settings.ts";
import { readPrompts } from "../tools/program/prompts_file.ts";
import { parseSetting, type Setting, setting } from "../tools/program/clip/setting.ts";
import { studySettings } from "../tools/program/clip/study.ts";
import { TilereelError } from "../gpu/common/errors.ts";
import { choice, flag, integer, many, number, type OptionValues, path } from "../tools/program/options.ts";
import { runAsProgram } from "../tools/program/run_command.ts";
import { fullAttention } from "../model/attention/full.ts";
import { embeddedModelDir } from "../model/embedded.ts";
import { exists } from "../model/files/file_error.ts";
import { type Lora, loraDeltas } from "../model/lora/lora.ts";
import { VideoPipeline } from "../model/pipeline.ts";
import { benchOptions, DEFAULT_PROMPTS, handOver, onGpu, promptsOption, saveResult } from "./program.ts";
import type { Judged } from "./quality/judged.ts";
import { completePrompts, merged, readRun } from "./quality/results.ts";
import { SharedPrompts } from "./quality/shared_prompts.ts";
import { type Contender, Study } from "./quality/study.ts";
import { tables } from "./quality/tables.ts";

const options = {
  setting: many(setting({
    value: "SETTING",
    help: 'As for tilereel compare, after "full": "vorta tau=0.5", "sliding", "name: veda keep=0.25".',
    default: "vorta, sliding, coreset; none where precisions are compared",
  })),
  study: flag({
    help: "Render the settings of the study in docs/quality.md: methods at several densities, what is as sparse at " +
      "random or without training, and each branch alone.",
  }),
  also: many(choice({
    choices: ["f32", "f16", "int8"],
    help: "Render full attention and every setting in this precision, too. Clips are compared with those of full " +
      "attention in --precision.",
  })),
  prompts: promptsOption,
  from: integer({ help: "Leave out the first N prompts.", default: 0, min: 0 }),
  count: integer({ help: "Render at most N prompts.", default: "all", min: 1 }),
  model: path({ value: "DIR", help: "Folder of the model.", default: "the embedded demo model" }),
  lora: path({ value: "FILE", help: "Add this LoRA to the model for every setting, but not for full attention." }),
  ...benchOptions,
  size: clipOptions.size,
  steps: clipOptions.steps,
  seed: integer({ help: "Prompt i starts from the noise of seed N + i.", default: 0 }),
  seconds: number({
    help: "Start no prompt that is likely to end later than after N seconds.",
    default: "no limit",
    above: 0,
  }),
  resume: flag({ help: "Leave out the prompts that the file of --save has complete." }),
  full: path({
    value: "DIR",
    help: "Folder of full attention's clips, OUT/full of an earlier run of this size: those are not rendered again. " +
      "Prompts without one are left out.",
  }),
  share: path({
    value: "DIR",
    help: "Share the prompts with the other processes that name this folder: each renders the next one that none has " +
      "taken. --save tells the processes apart, also when they are started again with --resume.",
  }),
  timing: integer({
    help: "Only time: render the first prompt N times with each setting, after a clip that is not counted.",
    default: "each prompt once, compared with full attention",
    min: 1,
  }),
  parts: path({
    value: "FILE,FILE",
    help: "Render nothing: print one table of what several runs saved.",
  }),
  times: path({ value: "FILE", help: "With --parts: what --timing saved, for the seconds." }),
  judged: path({ value: "FILE", help: "With --parts: what tools/demo/judge_settings.py saw, for its scores." }),
  frames: clipOptions.frames,
  out: path({
    value: "DIR",
    help: "Folder that clips are written to, as SETTING/000.npy.",
    default: "none",
  }),
};

type Values = OptionValues<typeof options>;

if (import.meta.main) await runAsProgram({ name: "deno task bench:quality", options, run: bench });

async function bench(values: Values): Promise<void> {
  const {
    from = 0,
    count = Infinity,
    model = embeddedModelDir(),
    parts,
    times,
    judged,
    save,
    share,
    timing,
    resume = false,
  } = values;
  if (parts !== undefined) {
    const run = merged(await Promise.all(parts.split(",").map(readRun)));
    const timed = times === undefined ? undefined : await readRun(times);
    const seen: Judged = judged === undefined ? {} : JSON.parse(await Deno.readTextFile(judged));
    return handOver(values, run, tables(run, seen, timed));
  }
  if (resume && save === undefined) throw new TilereelError("--resume goes on with the file of --save: name one");
  if (share !== undefined && save === undefined) {
    throw new TilereelError("--share tells processes by the file of --save: name one that no other process has");
  }
  const contenders = await contendersOf(values, model), { precision, also = [], lora } = values;
  const runs = [precision, ...also].flatMap((each, i): Group[] => {
    const named = i === 0 ? contenders : contenders.map((one) => ({ ...one, setting: `${one.setting}, ${each}` }));
    const group = { ...each && { precision: each } };
    if (lora === undefined) return [{ ...group, contenders: named, loras: [] }];
    return [
      { ...group, contenders: named.slice(0, 1), loras: [] },
      { ...group, contenders: named.slice(1), loras: [{ file: lora }] },
    ];
  }).filter(({ contenders }) => contenders.length > 0);
  const before = resume && await exists(save!) ? await readRun(save!) : { results: [] };
  const { size, frames, steps, seed = 0, out, seconds = Infinity } = values;
  const study = new Study({
    values: { ...size && { size }, ...frames !== undefined && { frames }, ...steps !== undefined && { steps } },
    ...{ seed, out, full: values.full, seconds, before },
    shared: share === undefined ? undefined : new SharedPrompts(share, save!),
    reference: contenders[0]!.setting,
    keepsReferences: runs.length > 1,
    onPrompt: (run) => saveResult(values, run),
  });
  // Full attention's clips that were given are not among the results.
  const made = runs.flatMap(({ contenders }) => contenders.map(({ setting }) => setting))
    .filter((setting) => values.full === undefined || setting !== contenders[0]!.setting);
  const complete = completePrompts(before, made);
  const prompts = (await readPrompts(values.prompts ?? DEFAULT_PROMPTS))
    .map(({ prompt }, number) => ({ prompt, number })).slice(from, from + count)
    .filter(({ number }) => !complete.has(number));
  for (const group of runs) {
    await onGpu({ ...values, ...group.precision && { precision: group.precision } }, async (gpu) => {
      const pipeline = await VideoPipeline.load(model, { gpu, adjust: loraDeltas(group.loras) });
      if (timing === undefined) await study.render(gpu, pipeline, group.contenders, prompts);
      else await study.time(gpu, pipeline, group.contenders, prompts[0]!, timing);
      pipeline.close();
    });
  }
  handOver(values, study.run, tables(study.run));
}

/** Settings that are rendered by one pipeline. */
interface Group {
  readonly precision?: NonNullable<Values["precision"]>;
  readonly contenders: readonly Contender[];
  readonly loras: readonly Lora[];
}

/** Full attention, then the settings that were asked for. */
async function contendersOf({ setting: given, study = false, also }: Values, model: string): Promise<Contender[]> {
  const usual = () => (also ? [] : ["vorta", "sliding", "coreset"]).map((words) => parseSetting(words, "--setting"));
  const settings: Setting[] = [...study ? studySettings() : given ? [] : usual(), ...given ?? []];
  const contenders: Contender[] = [{ setting: "full", options: { attention: fullAttention }, values: {} }];
  for (const { name: setting, values } of settings) {
    const { options } = await readyMethods(values, model);
    contenders.push({ setting, options, values: clipValuesOf(values) });
  }
  return contenders;
}
