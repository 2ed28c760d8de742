/**
 * `deno task bench:quality`: what sparse attention does to the clips. Every prompt is rendered with the same start
 * noise by full attention and under other settings; clips are compared with full attention's, and written for
 * tools/demo/judge.py.
 *
 * @module
 */
import { join } from "node:path";
import { ownFile } from "../model/own_files.ts";
import { attentionKind, attentionMethod } from "../tools/program/clip/attention_options.ts";
import { parseSetting, setting } from "../tools/program/clip/setting.ts";
import { flag, integer, many, type OptionValues, path } from "../tools/program/options.ts";
import { clipOptions, type ClipValues } from "../tools/program/clip/clip_options.ts";
import { clipSettings, clipValuesOf, overlay } from "../tools/program/clip/clip_settings.ts";
import { gpuOptions, openGpuAsAsked, precisionOption } from "../tools/program/gpu_options.ts";
import { showProgress } from "../tools/program/progress.ts";
import { readPrompts } from "../tools/program/clip/prompts_file.ts";
import { slug } from "../tools/program/clip/slug.ts";
import { fullAttention } from "../model/attention/full.ts";
import type { AttentionMethod } from "../model/attention/method.ts";
import type { AttentionReport } from "../model/attention/report.ts";
import { embeddedModelDir } from "../model/embedded.ts";
import { VideoPipeline } from "../model/pipeline.ts";
import { psnr, ssim } from "../model/video/quality.ts";
import type { Video } from "../model/video/video.ts";
import { BRANCHES } from "../model/vorta/branch.ts";
import { loadRouter } from "../model/vorta/router_file.ts";
import { npyOfFrames } from "./quality/npy.ts";
import { randomRoutes } from "./quality/random_routes.ts";
import { handOver, resultOptions } from "./result.ts";
import { runAsProgram } from "../tools/program/run_as_program.ts";
import { markdownTable } from "./table.ts";

const options = {
  setting: many(setting({
    group: "Bench",
    value: "SETTING",
    help: 'As for tilereel compare, after "full": "vorta tau=0.5", "sliding", "name: veda keep=0.25".',
    default: "vorta, sliding, coreset",
  })),
  random: flag({ group: "Bench", help: "Beside each vorta setting, random routes with as many heads on each branch." }),
  prompts: path({ group: "Bench", value: "FILE", help: "One prompt a line.", default: "tools/demo/prompts64.txt" }),
  from: integer({ group: "Bench", value: "N", help: "Leave out the first so many prompts.", default: "0", min: 0 }),
  count: integer({ group: "Bench", value: "N", help: "No more than so many prompts.", default: "all", min: 1 }),
  model: path({ group: "Bench", value: "DIR", help: "The model.", default: "the embedded demo model" }),
  ...gpuOptions("Bench"),
  precision: precisionOption("Bench"),
  size: clipOptions.size,
  steps: clipOptions.steps,
  seed: integer({ group: "Bench", value: "N", help: "Prompt i starts from the noise of seed N + i.", default: "0" }),
  out: path({ group: "Bench", value: "DIR", help: "Where clips go, as SETTING/000.npy.", default: "nowhere" }),
  ...resultOptions,
};

/** One setting's figures over all prompts. */
interface Result {
  readonly setting: string;
  readonly report: AttentionReport;
  /** By clip; empty for full attention itself. */
  readonly clips: readonly Likeness[];
  readonly seconds: number;
}

/** A clip beside full attention's of the same noise. */
interface Likeness {
  readonly psnr: number;
  readonly ssim: number;
  /** Change from frame to frame, over full attention's. */
  readonly flicker: number;
}

if (import.meta.main) await runAsProgram({ command: "deno task bench:quality", options, run: bench });

async function bench(values: OptionValues<typeof options>): Promise<void> {
  const model = values.model ?? embeddedModelDir();
  const { from = 0, count = Infinity } = values;
  const prompts = (await readPrompts(values.prompts ?? "tools/demo/prompts64.txt"))
    .map(({ prompt }, number) => ({ prompt, number })).slice(from, from + count);
  const contenders = await contendersOf(values, model);
  const gpu = await openGpuAsAsked(values, showProgress().onProgress, { brief: values.model === undefined });
  const pipeline = await VideoPipeline.load(model, { gpu });
  const results = await run(pipeline, prompts, contenders, values);
  pipeline.close();
  gpu.close();
  handOver(values, { prompts: prompts.length, results: results.map(withShares) }, tables(results));
}

/** What every prompt is rendered with. */
interface Contender {
  readonly attention: AttentionMethod;
  /** What the setting says of sampling, over the options of the whole bench. */
  readonly values: ClipValues;
}

/** Full attention, then what was asked for, by name. */
async function contendersOf(
  { setting: given, random = false }: OptionValues<typeof options>,
  model: string,
): Promise<Map<string, Contender>> {
  const settings = given ?? ["vorta", "sliding", "coreset"].map((words) => parseSetting(words, "--setting"));
  const contenders = new Map<string, Contender>([["full", { attention: fullAttention, values: {} }]]);
  for (const { name, values } of settings) {
    const contender = { attention: await attentionMethod(values, model), values: clipValuesOf(values) };
    contenders.set(name, contender);
    if (random && attentionKind(values) === "vorta") {
      const { settings } = await loadRouter(values.router ?? (await ownFile(model, "router"))!);
      contenders.set(`${name}, random`, { ...contender, attention: randomRoutes(contender.attention, settings) });
    }
  }
  return contenders;
}

async function run(
  pipeline: VideoPipeline,
  prompts: readonly { readonly prompt: string; readonly number: number }[],
  contenders: ReadonlyMap<string, Contender>,
  { size, steps, seed = 0, out }: OptionValues<typeof options>,
): Promise<Result[]> {
  const results: Result[] = [];
  const references: Video[] = [];
  for (const [setting, { attention, values }] of contenders) {
    const isReference = results.length === 0;
    const start = performance.now();
    let report: AttentionReport = { density: 1 };
    const clips: Likeness[] = [];
    const all = overlay<ClipValues>({ ...size && { size }, ...steps !== undefined && { steps } }, values);
    for (const [i, { prompt, number }] of prompts.entries()) {
      const video = await pipeline.generate({
        ...clipSettings({ prompt, seed: seed + number, values: all }, pipeline.defaults),
        attention,
        onAttention: (made) => report = made,
      });
      if (out !== undefined) {
        const folder = join(out, slug(setting));
        await Deno.mkdir(folder, { recursive: true });
        await Deno.writeFile(join(folder, `${String(number).padStart(3, "0")}.npy`), npyOfFrames(video));
      }
      if (isReference) references.push(video);
      else {
        const like = references[i]!;
        clips.push({
          psnr: psnr(video.data, like.data),
          ssim: ssim(video, like),
          flicker: change(video) / change(like),
        });
      }
    }
    const seconds = (performance.now() - start) / 1000;
    results.push({ setting, report, clips, seconds });
    console.error(`${setting}: ${(100 * report.density).toFixed(1)} %, ${seconds.toFixed(1)} s`);
  }
  return results;
}

function tables(results: readonly Result[]): string {
  const lines = [markdownTable([
    ["attention", "density", "full", "core-set", "sliding", "PSNR, dB", "SSIM", "flicker", "seconds"],
    ...results.map(({ setting, report, clips, seconds }) => [
      setting,
      percent(report.density),
      ...BRANCHES.map((_, branch) => report.routes ? percent(share(report.routes.flat(), branch)) : ""),
      mean(clips.map(({ psnr }) => psnr), 2),
      mean(clips.map(({ ssim }) => ssim), 4),
      mean(clips.map(({ flicker }) => flicker), 3),
      seconds.toFixed(1),
    ]),
  ])];
  for (const { setting, report: { routes } } of results) {
    if (!routes) continue;
    lines.push(`${setting}: heads on full / core-set / sliding, by layer and step`);
    lines.push(markdownTable([
      ["layer", ...routes.map((_, step) => String(step + 1))],
      ...routes[0]!.map((_, layer) => [
        String(layer),
        ...routes.map((layers) =>
          BRANCHES.map((_, branch) => layers[layer]!.filter((route) => route === branch).length).join("/")
        ),
      ]),
    ]));
  }
  return lines.join("\n\n");
}

/** Mean absolute change of a sample from one frame to the next. */
function change({ data, frames }: Video): number {
  const frame = data.length / frames;
  let sum = 0;
  for (let at = frame; at < data.length; at++) sum += Math.abs(data[at]! - data[at - frame]!);
  return sum / (data.length - frame);
}

function withShares(result: Result) {
  const { routes, density } = result.report;
  return { ...result, report: { density, routes: routes?.map((layers) => layers.map((heads) => [...heads])) } };
}

function share(routes: readonly Uint8Array[], branch: number): number {
  const all = routes.flatMap((heads) => [...heads]);
  return all.filter((route) => route === branch).length / all.length;
}

/** The mean with this many decimals; an empty string for no numbers. */
function mean(numbers: readonly number[], decimals: number): string {
  return numbers.length === 0 ? "" : (numbers.reduce((a, b) => a + b) / numbers.length).toFixed(decimals);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}
