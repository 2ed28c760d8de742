/**
 * `deno task bench:quality`: what sparse attention does to clips. Every prompt is rendered from the same noise by full
 * attention and under other settings. Clips are compared with those of full attention, and written for
 * tools/demo/judge.py.
 *
 * @module
 */
import { join } from "node:path";
import { attentionKind } from "../tools/program/clip/attention_options.ts";
import { type ReadyMethods, readyMethods } from "../tools/program/clip/method_options.ts";
import { clipOptions, type ClipValues } from "../tools/program/clip/clip_options.ts";
import { clipSettings, clipValuesOf, overlay } from "../tools/program/clip/clip_settings.ts";
import { readPrompts } from "../tools/program/prompts_file.ts";
import { parseSetting, setting } from "../tools/program/clip/setting.ts";
import { slug } from "../tools/program/clip/slug.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { choice, flag, integer, many, type OptionValues, path } from "../tools/program/options.ts";
import { runAsProgram } from "../tools/program/run_command.ts";
import { fullAttention } from "../model/attention/full.ts";
import type { AttentionReport } from "../model/attention/report.ts";
import { embeddedModelDir } from "../model/embedded.ts";
import { ownFile } from "../model/own_files.ts";
import { type Lora, loraDeltas } from "../model/lora/lora.ts";
import { VideoPipeline } from "../model/pipeline.ts";
import { psnr, ssim } from "../model/video/quality.ts";
import type { Video } from "../model/video/video.ts";
import { BRANCHES } from "../model/vorta/branch.ts";
import { loadRouter } from "../model/vorta/router_file.ts";
import { benchOptions, DEFAULT_PROMPTS, handOver, onGpu, promptsOption } from "./program.ts";
import { randomRoutes } from "./quality/random_routes.ts";
import { markdownTable, mean, percent, tableOf } from "./table.ts";

const options = {
  setting: many(setting({
    value: "SETTING",
    help: 'As for tilereel compare, after "full": "vorta tau=0.5", "sliding", "name: veda keep=0.25".',
    default: "vorta, sliding, coreset; none where precisions are compared",
  })),
  random: flag({
    help: "Beside each vorta setting, render with random routes that have as many heads on each branch.",
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
  out: path({
    value: "DIR",
    help: "Folder that clips are written to, as SETTING/000.npy.",
    default: "none",
  }),
};

type Values = OptionValues<typeof options>;

/** The figures of one setting over all prompts. */
interface Result {
  readonly setting: string;
  readonly report: AttentionReport;
  /** For each clip; empty for full attention itself. */
  readonly clips: readonly Likeness[];
  readonly seconds: number;
}

/** The data of a run. */
export interface QualityRun {
  readonly prompts: number;
  readonly results: readonly Result[];
}

/** A clip compared with full attention's from the same noise. */
interface Likeness {
  readonly psnr: number;
  readonly ssim: number;
  /** The change from frame to frame, over full attention's. */
  readonly flicker: number;
}

if (import.meta.main) await runAsProgram({ name: "deno task bench:quality", options, run: bench });

async function bench(values: Values): Promise<void> {
  const { from = 0, count = Infinity, model = embeddedModelDir() } = values;
  const prompts = (await readPrompts(values.prompts ?? DEFAULT_PROMPTS))
    .map(({ prompt }, number) => ({ prompt, number })).slice(from, from + count);
  const [full, ...others] = await contendersOf(values, model), results: Result[] = [], references: Video[] = [];
  const render = async (gpu: Gpu, contenders: readonly Contender[], loras: readonly Lora[]) => {
    const pipeline = await VideoPipeline.load(model, { gpu, adjust: loraDeltas(loras) });
    for (const contender of contenders) {
      results.push(await renderAll(pipeline, prompts, contender, values, references));
      const { setting, report, seconds } = results.at(-1)!;
      console.error(`${setting}: ${(100 * report.density).toFixed(1)} %, ${seconds.toFixed(1)} s`);
    }
    pipeline.close();
  };
  for (const precision of [undefined, ...values.also ?? []]) {
    const named = (contender: Contender) =>
      precision ? { ...contender, setting: `${contender.setting}, ${precision}` } : contender;
    await onGpu({ ...values, ...precision && { precision } }, async (gpu) => {
      await render(gpu, [named(full!)], []);
      await render(gpu, others.map(named), values.lora === undefined ? [] : [{ file: values.lora }]);
    });
  }
  const data = results.map((result) => {
    const { routes, density } = result.report;
    return { ...result, report: { density, routes: routes?.map((layers) => layers.map((heads) => [...heads])) } };
  });
  handOver(values, { prompts: prompts.length, results: data }, tables(results));
}

/** A setting that every prompt is rendered with. */
interface Contender {
  readonly setting: string;
  readonly options: ReadyMethods["options"];
  /** The sampling options of the setting. It takes precedence over the options of the bench. */
  readonly values: ClipValues;
}

/** Full attention, then the settings that were asked for. */
async function contendersOf({ setting: given, random = false, also }: Values, model: string): Promise<Contender[]> {
  const settings = given ??
    (also ? [] : ["vorta", "sliding", "coreset"]).map((words) => parseSetting(words, "--setting"));
  const contenders: Contender[] = [{ setting: "full", options: { attention: fullAttention }, values: {} }];
  for (const { name: setting, values } of settings) {
    const { options } = await readyMethods(values, model);
    const contender = { setting, options, values: clipValuesOf(values) };
    contenders.push(contender);
    if (random && attentionKind(values) === "vorta") {
      const { settings } = await loadRouter(values.router ?? (await ownFile(model, "router"))!);
      const attention = randomRoutes(options.attention, settings);
      contenders.push({ ...contender, setting: `${setting}, random`, options: { ...options, attention } });
    }
  }
  return contenders;
}

/** Renders all prompts. The first contender's clips become the references. */
async function renderAll(
  pipeline: VideoPipeline,
  prompts: readonly { readonly prompt: string; readonly number: number }[],
  { setting, options, values: own }: Contender,
  { size, steps, seed = 0, out }: Values,
  references: Video[],
): Promise<Result> {
  const start = performance.now(), clips: Likeness[] = [];
  let report: AttentionReport = { density: 1 };
  const values = overlay<ClipValues>({ ...size && { size }, ...steps !== undefined && { steps } }, own);
  for (const [i, { prompt, number }] of prompts.entries()) {
    const video = await pipeline.generate({
      ...clipSettings({ prompt, seed: seed + number, values }, pipeline.defaults),
      ...options,
      onAttention: (made) => report = made,
    });
    if (out !== undefined) {
      const folder = join(out, slug(setting));
      await Deno.mkdir(folder, { recursive: true });
      await Deno.writeFile(join(folder, `${String(number).padStart(3, "0")}.npy`), npyOfFrames(video));
    }
    const like = references[i];
    if (!like) references.push(video);
    else {
      const flicker = change(video) / change(like);
      clips.push({ psnr: psnr(video.data, like.data), ssim: ssim(video, like), flicker });
    }
  }
  return { setting, report, clips, seconds: (performance.now() - start) / 1000 };
}

/** The mean absolute change of a sample from one frame to the next. */
function change({ data, frames }: Video): number {
  const frame = data.length / frames;
  let sum = 0;
  for (let at = frame; at < data.length; at++) sum += Math.abs(data[at]! - data[at - frame]!);
  return sum / (data.length - frame);
}

/** A clip as NumPy's file format, version 1.0: uint8 [frames, height, width, 3]. */
function npyOfFrames({ frames, height, width, data }: Video): Uint8Array {
  const text = `{'descr': '|u1', 'fortran_order': False, 'shape': (${frames}, ${height}, ${width}, 3), }`;
  // Magic, version and length take ten bytes; the header ends on a multiple of 64 with a line feed.
  const length = Math.ceil((10 + text.length + 1) / 64) * 64 - 10;
  const header = new TextEncoder().encode(text.padEnd(length - 1) + "\n");
  const file = new Uint8Array(10 + length + data.length);
  file.set([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, length & 255, length >> 8]);
  file.set(header, 10);
  file.set(data, 10 + length);
  return file;
}

function tables(results: readonly Result[]): string {
  const share = (branch: number) => ({ report: { routes } }: Result) => {
    const all = routes?.flat().flatMap((heads) => [...heads]);
    return all ? percent(all.filter((route) => route === branch).length / all.length) : "";
  };
  const lines = [tableOf(results, {
    "attention": (r) => r.setting,
    "density": (r) => percent(r.report.density),
    "full": share(BRANCHES.indexOf("full")),
    "core-set": share(BRANCHES.indexOf("coreset")),
    "sliding": share(BRANCHES.indexOf("sliding")),
    "PSNR, dB": ({ clips }) => mean(clips.map(({ psnr }) => psnr), 2),
    "SSIM": ({ clips }) => mean(clips.map(({ ssim }) => ssim), 4),
    "flicker": ({ clips }) => mean(clips.map(({ flicker }) => flicker), 3),
    "seconds": (r) => r.seconds.toFixed(1),
  })];
  for (const { setting, report: { routes } } of results) {
    if (!routes) continue;
    const counts = (heads: Uint8Array) =>
      BRANCHES.map((_, branch) => heads.filter((route) => route === branch).length).join("/");
    lines.push(`${setting}: heads on full / core-set / sliding, by layer and step`);
    lines.push(markdownTable([
      ["layer", ...routes.map((_, step) => String(step + 1))],
      ...routes[0]!.map((_, layer) => [String(layer), ...routes.map((layers) => counts(layers[layer]!))]),
    ]));
  }
  return lines.join("\n\n");
}
