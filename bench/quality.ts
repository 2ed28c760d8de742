/**
 * `deno task bench:quality`: what sparse attention does to the clips. Every prompt is rendered with the same start noise
 * by full attention and under other settings; clips are compared with full attention's, and written for
 * tools/demo/judge.py.
 *
 * @module
 */
import { join } from "node:path";
import { attentionKind, attentionMethod, ownRouter } from "../cli/attention_options.ts";
import { parseSetting, setting } from "../cli/compare/setting.ts";
import { flag, integer, many, type OptionValues, path } from "../cli/options.ts";
import { clipOptions } from "../cli/clip_options.ts";
import { gpuOptions, openGpuAsAsked } from "../cli/gpu_options.ts";
import { showProgress } from "../cli/progress.ts";
import { parseCommand } from "../cli/parse.ts";
import { readPrompts } from "../cli/prompts_file.ts";
import { slug } from "../cli/slug.ts";
import { type AttentionMethod, fullAttention } from "../model/attention/method.ts";
import type { AttentionReport } from "../model/attention/report.ts";
import { embeddedModelDir } from "../model/embedded.ts";
import { WanPipeline } from "../model/pipeline.ts";
import { psnr, ssim } from "../model/quality.ts";
import type { Video } from "../model/video.ts";
import { BRANCHES } from "../model/vorta/branch.ts";
import { loadRouter } from "../model/vorta/router_file.ts";
import { markdownTable } from "./table.ts";
import { npyOfFrames } from "./quality/npy.ts";
import { randomRoutes } from "./quality/random_routes.ts";
import { runAsProgram } from "./run_as_program.ts";

const options = {
  setting: many(setting({
    group: "Bench",
    value: "SETTING",
    help: 'As for tilereel compare, after "full": "vorta tau=0.5", "sliding", "name: veda keep=0.25".',
    default: "vorta, sliding, coreset",
  })),
  random: flag({ group: "Bench", help: "Beside each vorta setting, random routes with as many heads on each branch." }),
  prompts: path({ group: "Bench", value: "FILE", help: "One prompt a line.", default: "tools/demo/prompts64.txt" }),
  count: integer({ group: "Bench", value: "N", help: "The first so many prompts only.", default: "all", min: 1 }),
  model: path({ group: "Bench", value: "DIR", help: "The model.", default: "the embedded demo model" }),
  ...gpuOptions("Bench"),
  size: clipOptions.size,
  steps: clipOptions.steps,
  seed: integer({ group: "Bench", value: "N", help: "Prompt i starts from the noise of seed N + i.", default: "0" }),
  out: path({ group: "Bench", value: "DIR", help: "Where clips go, as SETTING/000.npy.", default: "nowhere" }),
  json: flag({ group: "Bench", help: "Print JSON instead of tables." }),
};

/** One setting's figures over all prompts. */
interface Result {
  readonly setting: string;
  readonly report: AttentionReport;
  /** Means over the clips; undefined for full attention itself. */
  readonly psnr?: number;
  readonly ssim?: number;
  /** Change from frame to frame, over full attention's. */
  readonly flicker?: number;
  readonly seconds: number;
}

if (import.meta.main) await runAsProgram("bench", bench);

async function bench(): Promise<void> {
  const { values, help } = parseCommand(Deno.args, options, "bench:quality");
  if (help) {
    console.log(`Usage: deno task bench:quality ${Object.keys(options).map((name) => `[--${name}]`).join(" ")}`);
    return;
  }
  const model = values.model ?? embeddedModelDir();
  const prompts = (await readPrompts(values.prompts ?? "tools/demo/prompts64.txt"))
    .slice(0, values.count).map(({ prompt }) => prompt);
  const methods = await attentionMethods(values, model);
  const gpu = await openGpuAsAsked(values, showProgress().onProgress);
  const pipeline = await WanPipeline.load(model, { gpu });
  const results = await run(pipeline, prompts, methods, values);
  pipeline.close();
  gpu.close();
  if (values.json) console.log(JSON.stringify({ prompts: prompts.length, results: results.map(withShares) }));
  else print(results);
}

/** Full attention, then what was asked for, by name. */
async function attentionMethods(
  { setting: given, random = false }: OptionValues<typeof options>,
  model: string,
): Promise<Map<string, AttentionMethod>> {
  const settings = given ?? ["vorta", "sliding", "coreset"].map((words) => parseSetting(words, "--setting"));
  const methods = new Map([["full", fullAttention]]);
  for (const { name, values } of settings) {
    const method = await attentionMethod(values, model);
    methods.set(name, method);
    if (random && attentionKind(values) === "vorta") {
      const { settings } = await loadRouter(values.router ?? ownRouter(model));
      methods.set(`${name}, random`, randomRoutes(method, settings));
    }
  }
  return methods;
}

async function run(
  pipeline: WanPipeline,
  prompts: readonly string[],
  methods: ReadonlyMap<string, AttentionMethod>,
  { size, steps, seed = 0, out }: OptionValues<typeof options>,
): Promise<Result[]> {
  const results: Result[] = [];
  const references: Video[] = [];
  for (const [setting, attention] of methods) {
    const start = performance.now();
    let report: AttentionReport = { density: 1 };
    const psnrs: number[] = [], ssims: number[] = [], flickers: number[] = [];
    for (const [i, prompt] of prompts.entries()) {
      const video = await pipeline.generate({
        prompt,
        seed: seed + i,
        attention,
        onAttention: (made) => report = made,
        ...size && { width: size.width, height: size.height },
        ...steps !== undefined && { steps },
      });
      if (out !== undefined) {
        const folder = join(out, slug(setting));
        await Deno.mkdir(folder, { recursive: true });
        await Deno.writeFile(join(folder, `${String(i).padStart(3, "0")}.npy`), npyOfFrames(video));
      }
      if (attention === fullAttention) references.push(video);
      else {
        psnrs.push(psnr(video.data, references[i]!.data));
        ssims.push(ssim(video, references[i]!));
        flickers.push(change(video) / change(references[i]!));
      }
    }
    const seconds = (performance.now() - start) / 1000;
    results.push({
      setting,
      report,
      seconds,
      ...psnrs.length > 0 && { psnr: mean(psnrs), ssim: mean(ssims), flicker: mean(flickers) },
    });
    console.error(`${setting}: ${(100 * report.density).toFixed(1)} %, ${seconds.toFixed(1)} s`);
  }
  return results;
}

function print(results: readonly Result[]): void {
  console.log(markdownTable([
    ["attention", "density", "full", "core-set", "sliding", "PSNR, dB", "SSIM", "flicker", "seconds"],
    ...results.map(({ setting, report, psnr, ssim, flicker, seconds }) => [
      setting,
      percent(report.density),
      ...BRANCHES.map((_, branch) => report.routes ? percent(share(report.routes.flat(), branch)) : ""),
      psnr?.toFixed(2) ?? "",
      ssim?.toFixed(4) ?? "",
      flicker?.toFixed(3) ?? "",
      seconds.toFixed(1),
    ]),
  ]));
  for (const { setting, report: { routes } } of results) {
    if (!routes) continue;
    console.log(`\n${setting}: heads on full / core-set / sliding, by layer and step\n`);
    console.log(markdownTable([
      ["layer", ...routes.map((_, step) => String(step + 1))],
      ...routes[0]!.map((_, layer) => [
        String(layer),
        ...routes.map((layers) =>
          BRANCHES.map((_, branch) => layers[layer]!.filter((route) => route === branch).length).join("/")
        ),
      ]),
    ]));
  }
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

function mean(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0) / numbers.length;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}
