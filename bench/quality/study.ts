import { join } from "node:path";
import type { Gpu } from "../../gpu/gpu.ts";
import type { GenerateOptions, VideoPipeline } from "../../model/pipeline.ts";
import { exists } from "../../model/files/file_error.ts";
import type { Video } from "../../model/video/video.ts";
import type { ClipValues } from "../../tools/program/clip/clip_options.ts";
import { clipSettings, overlay } from "../../tools/program/clip/clip_settings.ts";
import type { ReadyMethods } from "../../tools/program/clip/method_options.ts";
import { slug } from "../../tools/program/clip/slug.ts";
import { type ClipFigures, likenessOf, renderMeasured } from "./clip_figures.ts";
import { framesOfNpy, npyOfFrames } from "./npy.ts";
import type { SharedPrompts } from "./shared_prompts.ts";
import { merged, type QualityRun, type SettingResult } from "./results.ts";

/** A setting that every prompt is rendered with. */
export interface Contender {
  readonly setting: string;
  readonly options: ReadyMethods["options"];
  /** The sampling options of the setting. It takes precedence over the options of the bench. */
  readonly values: ClipValues;
}

/** What holds for all clips of a study. */
export interface StudyOptions {
  /** The options of a clip that settings do not say. */
  readonly values: ClipValues;
  /** Prompt i starts from the noise of this seed + i. */
  readonly seed: number;
  /** The folder for clips. */
  readonly out?: string | undefined;
  /** A folder of the reference's clips, which are not rendered again. Prompts that have none there are left out. */
  readonly full?: string | undefined;
  /** Where other processes render some of the prompts. */
  readonly shared?: SharedPrompts | undefined;
  /** No prompt is started that is likely to end later than after so many seconds. */
  readonly seconds: number;
  /** What is gone on with. */
  readonly before: QualityRun;
  /** The setting that others are compared with. */
  readonly reference: string;
  /** Whether settings that are rendered later need the reference's clips. */
  readonly keepsReferences: boolean;
  /** Called with all that has been measured, after each prompt. */
  readonly onPrompt: (run: QualityRun) => void;
}

/** What is rendered, prompt by prompt, and what was measured of it. */
export class Study {
  readonly #begun = performance.now();
  readonly #clips = new Map<string, ClipFigures[]>();
  readonly #routes = new Map<string, SettingResult["routes"]>();
  /** Full attention's clips by prompt. */
  readonly #references = new Map<number, Video>();

  constructor(private readonly options: StudyOptions) {}

  get run(): QualityRun {
    const results = [...this.#clips].map(([setting, clips]): SettingResult => {
      const routes = this.#routes.get(setting);
      return { setting, clips, ...routes && { routes } };
    });
    return merged([this.options.before, { results }]);
  }

  /** Renders prompts with each of some settings, as long as there is time. */
  async render(
    gpu: Gpu,
    pipeline: VideoPipeline,
    contenders: readonly Contender[],
    prompts: readonly { readonly prompt: string; readonly number: number }[],
  ): Promise<void> {
    const { seconds, keepsReferences, onPrompt, reference, full, shared } = this.options,
      elapsed = () => (performance.now() - this.#begun) / 1000;
    let longest = 0;
    for (const { prompt, number } of prompts) {
      const start = elapsed();
      if (start + longest > seconds) {
        console.error(`no time for prompt ${number} and those after it`);
        break;
      }
      if (full !== undefined && !await exists(clipFile(full, number))) {
        console.error(`prompt ${number}: left out, because ${clipFile(full, number)} is not there`);
        continue;
      }
      if (!(await shared?.take(number) ?? true)) continue;
      if (full !== undefined) {
        this.#references.set(number, framesOfNpy(await Deno.readFile(clipFile(full, number)), pipeline.defaults.fps));
      }
      for (const contender of contenders) {
        if (full !== undefined && contender.setting === reference) continue;
        await this.#clip(gpu, pipeline, contender, prompt, number);
      }
      if (!keepsReferences) this.#references.clear();
      longest = Math.max(longest, elapsed() - start);
      onPrompt(this.run);
    }
  }

  /** Times one prompt with each of some settings: the median of `count` clips after one that is not counted. */
  async time(
    gpu: Gpu,
    pipeline: VideoPipeline,
    contenders: readonly Contender[],
    { prompt, number }: { readonly prompt: string; readonly number: number },
    count: number,
  ): Promise<void> {
    const median = (numbers: readonly number[]) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!;
    for (const contender of contenders) {
      const made: ClipFigures[] = [];
      for (let i = 0; i <= count; i++) {
        const options = this.#optionsOf(pipeline, contender, prompt, number);
        made.push((await renderMeasured(gpu, pipeline, number, { ...options, timed: true })).figures);
      }
      const counted = made.slice(1),
        of = (what: "denoise" | "decode") => median(counted.map(({ seconds }) => seconds[what]));
      this.#clips.set(contender.setting, [{ ...made[0]!, seconds: { denoise: of("denoise"), decode: of("decode") } }]);
      this.options.onPrompt(this.run);
    }
  }

  #optionsOf(
    pipeline: VideoPipeline,
    { options, values: own }: Contender,
    prompt: string,
    number: number,
  ): GenerateOptions {
    const { values, seed } = this.options;
    const settings = clipSettings({ prompt, seed: seed + number, values: overlay(values, own) }, pipeline.defaults);
    return { ...settings, ...options };
  }

  async #clip(
    gpu: Gpu,
    pipeline: VideoPipeline,
    contender: Contender,
    prompt: string,
    number: number,
  ): Promise<void> {
    const { out, reference } = this.options, { setting } = contender;
    const options = this.#optionsOf(pipeline, contender, prompt, number);
    const { video, figures, report } = await renderMeasured(gpu, pipeline, number, options);
    if (out !== undefined) {
      const folder = join(out, slug(setting));
      await Deno.mkdir(folder, { recursive: true });
      const file = clipFile(folder, number);
      // A judge that waits for clips sees none that is half written.
      await Deno.writeFile(`${file}.part`, npyOfFrames(video));
      await Deno.rename(`${file}.part`, file);
    }
    const full = this.#references.get(number);
    if (setting === reference) this.#references.set(number, video);
    const clips = this.#clips.get(setting) ?? [];
    clips.push({ ...figures, ...full && setting !== reference && likenessOf(video, full) });
    this.#clips.set(setting, clips);
    const routes = report.routes?.map((layers) => layers.map((heads) => [...heads]));
    if (routes) this.#routes.set(setting, routes);
    const { denoise, decode } = figures.seconds;
    console.error(
      `prompt ${number}, ${setting}: ${(100 * figures.density).toFixed(1)} %, ${denoise.toFixed(2)} s and ` +
        `${decode.toFixed(2)} s to decode`,
    );
  }
}

/** The file of a prompt's clip. */
function clipFile(folder: string, number: number): string {
  return join(folder, `${String(number).padStart(3, "0")}.npy`);
}
