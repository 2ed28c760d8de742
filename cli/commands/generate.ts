/**
 * `tilereel generate`: prompts in, videos out.
 *
 * @module
 */
import { NotFiniteError, TilereelError } from "../../errors.ts";
import type { GpuSettings } from "../../gpu/gpu.ts";
import type { AttentionReport } from "../../model/attention/report.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import { WanPipeline } from "../../model/pipeline.ts";
import type { PromptEmbeddings } from "../../model/prompt_encoder.ts";
import type { OnProgress } from "../../model/progress.ts";
import type { Video } from "../../model/video.ts";
import { type Clip, planClips } from "../clip_plan.ts";
import { attentionKind, attentionMethod, attentionOptions } from "../attention_options.ts";
import { clipOptions } from "../clip_options.ts";
import { clipExtent, type ClipSettings, clipSettings, clipValuesOf } from "../clip_settings.ts";
import { defineCommand } from "../command.ts";
import { gpuOptions, openGpuAsAsked, precisionOption } from "../gpu_options.ts";
import { choice, flag, memory, type OptionValues, path } from "../options.ts";
import { checkProfile, profileOption, startProfile } from "../profile.ts";
import { formatDuration, type ProgressDisplay, showProgress } from "../progress.ts";
import { type EmbeddingsFile, readEmbeddings, readLatents } from "../tensor_files.ts";
import { weightDtypeOption, weightsLine, weightsOption } from "../weights_option.ts";
import { formatOf, VIDEO_FORMATS, writeVideo } from "../video/write_video.ts";

const options = {
  out: path({
    group: "Output",
    short: "o",
    value: "PATH",
    help: "FILE.mp4, FILE.gif, FILE.png (a sheet of eight frames) or DIR/ (every frame as a PNG). Folders on the way " +
      "are made; a file of that name is replaced. With --prompts: the folder of the clips.",
    elsewhere: ["output", "output-path", "save-file"],
    default: "out/<prompt>-<seed>.mp4, or -2, -3 … where that is taken",
  }),
  format: choice({
    group: "Output",
    of: VIDEO_FORMATS,
    help: "What to write where --out names no file.",
    default: "mp4",
  }),
  json: flag({
    group: "Output",
    help: "Print one JSON object a video on the standard output, and nothing else there.",
  }),
  profile: profileOption("Output"),
  quiet: flag({ group: "Output", short: "q", help: "Print nothing but errors (and what --json asks for)." }),
  model: path({
    group: "Model",
    short: "m",
    value: "DIR",
    help: "Folder of a Wan 2.1 text-to-video model in the diffusers layout.",
    elsewhere: ["model-path", "diffusion-model", "ckpt-dir", "M"],
    default: "the embedded demo model",
  }),
  "text-encoder": path({
    group: "Model",
    value: "FILE.onnx",
    help: "Run this ONNX file as the text encoder instead of the model's own.",
  }),
  embeddings: path({
    group: "Model",
    value: "FILE",
    help: "Use these embeddings instead of encoding the prompt, which then only names the output: a safetensors file " +
      'with the tensor "prompt_embeds" and, for guidance, "negative_prompt_embeds". The model needs no text encoder.',
  }),
  precision: precisionOption("Model"),
  memory: memory({
    group: "Model",
    value: "LIMIT",
    help: "GPU memory that may be used, as in 8GiB or 512MiB. Decoding takes smaller steps where it is little.",
    default: "no limit; plans go by 8 GB",
  }),
  weights: weightsOption,
  "weight-dtype": weightDtypeOption,
  ...gpuOptions("Model"),
  prompts: path({
    group: "Prompts",
    short: "p",
    value: "FILE",
    help: 'Render many: one prompt a line, or JSON objects such as {"prompt": "a red circle", "seed": 7, "size": ' +
      '"128x128", "out": "circle.gif"} with any of the clip and sampling options but latents as keys. What is already there is ' +
      "skipped, so a batch that was broken off can be run again. Blank lines and lines that begin with # don't count.",
  }),
  ...clipOptions,
  ...attentionOptions,
  latents: path({
    group: "Sampling",
    value: "FILE",
    help: 'Start from this noise: a safetensors file with one tensor, or one called "latents" or "latents.init".',
    default: "noise from the seed",
  }),
};

/** See the module. */
export const command = defineCommand({
  name: "generate",
  description: "Renders a video from a text prompt.",
  positionals: "PROMPT",
  maxPositionals: 1,
  options,
  examples: [
    { line: 'tilereel generate "a red circle moving right on a black background"', does: "An MP4 in out/." },
    {
      line: 'tilereel generate "a blue square" --seed 7 --steps 20 --out square.gif',
      does: "A GIF that can be repeated.",
    },
    {
      line: 'tilereel generate "a cat on a beach" --model Wan2.1-T2V-1.3B-Diffusers --size 832x480 --frames 33',
      does: "Real Wan weights, a shorter clip.",
    },
    {
      line: 'tilereel generate "a yellow ring" --attention vorta --tau 0.5',
      does: "Sparse attention, as the model's router says.",
    },
    {
      line: 'tilereel generate "a yellow ring" --attention veda --keep 0.2 --dense-layers 0,1',
      does: "A fifth of the tiles.",
    },
    {
      line: "tilereel generate --prompts prompts.txt --out clips --format gif",
      does: "Many GIFs; run again to resume.",
    },
    {
      line: 'tilereel generate "a green cross" --out frames/ --json',
      does: "Frames as PNG, and what was done as JSON.",
    },
  ],
  notes: "The embedded model draws coloured shapes that move, and nothing else: a [small|big] COLOUR circle, square, " +
    "triangle, diamond, ring or cross that is moving right, left, up or down, bouncing, circling, growing, shrinking, " +
    "spinning or standing still [and a second one] on a [striped|checkered] black, gray, navy, teal or maroon background.",
  run,
});

async function run(values: OptionValues<typeof options>, [prompt]: readonly string[]): Promise<number> {
  const { json = false, quiet = false } = values;
  checkEmbeddingsAlone(values);
  const clips = await planClips({
    values: clipValuesOf(values),
    ...prompt !== undefined && { prompt },
    ...values.prompts !== undefined && { prompts: values.prompts },
    ...values.out !== undefined && { out: values.out },
    ...values.format !== undefined && { format: values.format },
  });
  const say = (line: string) => {
    if (!json && !quiet) console.log(line);
  };
  const todo = clips.filter((clip) => !clip.done);
  if (todo.length < clips.length) {
    say(`${clips.length - todo.length} of ${clips.length} clips are already there and are skipped.`);
  }
  if (json) { for (const { out, prompt, done } of clips) if (done) printJson({ file: out, prompt, skipped: true }); }
  if (todo.length === 0) return 0;
  if (values.profile !== undefined) await checkProfile(values.profile, todo.map(({ out }) => out));

  const model = values.model ?? embeddedModelDir();
  const attention = await attentionMethod(values, model);
  const latents = values.latents === undefined ? undefined : await readLatents(values.latents);
  const embeddings = values.embeddings === undefined ? undefined : await readEmbeddings(values.embeddings);
  const progress: ProgressDisplay = quiet ? { onProgress: () => {}, stop: () => {} } : showProgress();
  using cleanUp = new DisposableStack();
  cleanUp.defer(() => progress.stop());
  const gpu = await openGpuAsAsked(values, progress.onProgress, { brief: values.model === undefined });
  cleanUp.defer(() => gpu.close());
  const profile = values.profile === undefined ? undefined : cleanUp.use(await startProfile(gpu, values.profile));
  const pipeline = await WanPipeline.load(model, {
    gpu,
    clips: todo.map(({ values }) => clipExtent(values)),
    ...values.weights !== undefined && { weights: values.weights },
    ...values["weight-dtype"] !== undefined && { weightDtype: values["weight-dtype"] },
    onProgress: progress.onProgress,
    ...values["text-encoder"] !== undefined && { textEncoder: values["text-encoder"] },
  });
  cleanUp.defer(() => pipeline.close());
  const streamed = weightsLine(pipeline.weights);
  if (streamed) {
    progress.stop();
    say(streamed);
  }
  let report: AttentionReport = { density: 1 };
  /** What is true of all clips of a batch is said once. */
  const noted = new Set<string>();
  const given = {
    attention,
    onAttention: (told: AttentionReport) => report = told,
    ...latents && { latents },
    ...embeddings && { embeddings: fittingEmbeddings(values.embeddings!, embeddings, pipeline.textDim) },
    onNote: (note: string) => {
      progress.stop();
      if (!quiet && !noted.has(note)) console.error(`Note: ${note}.`);
      noted.add(note);
    },
  };
  const kind = attentionKind(values);
  let status = 0;
  for (const [i, clip] of todo.entries()) {
    const settings = clipSettings(clip, pipeline.defaults);
    const start = performance.now();
    const which = todo.length > 1 ? `clip ${i + 1} of ${todo.length}, ` : "";
    const onProgress: OnProgress = (told) => progress.onProgress({ ...told, stage: `${which}${told.stage}` });
    let video: Video;
    try {
      video = await pipeline.generate({ ...settings, ...given, onProgress });
    } catch (error) {
      if (!(error instanceof TilereelError)) throw error;
      if (!(error instanceof NotFiniteError)) throw todo.length > 1 ? named(error, clip) : error;
      // The others of a batch may come out well.
      progress.stop();
      console.error(`tilereel: ${clip.out}: ${error.message}`);
      status = 1;
      continue;
    }
    const bytes = await writeVideo(clip.out, video, { onProgress });
    const seconds = (performance.now() - start) / 1000;
    progress.stop();
    say(summary(clip, settings, bytes, seconds, values.latents, gpu.settings));
    if (kind !== "full") say(attentionLine(kind, report));
    if (json) {
      printJson({
        file: clip.out,
        format: formatOf(clip.out),
        bytes,
        seconds: Number(seconds.toFixed(3)),
        ...settings,
        precision: gpu.settings.precision,
        precisionReason: gpu.settings.precisionReason,
        attention: kind,
        density: Number(report.density.toFixed(4)),
        model: values.model ?? "embedded",
        adapter: gpu.settings.description.name,
        source: gpu.settings.description.source,
        weights: pipeline.weights,
        // Noise that was given is not the seed's.
        ...values.latents !== undefined && { seed: null, latents: values.latents },
      });
    }
  }
  if (profile) {
    const lines = await profile.finish();
    progress.stop();
    say(lines);
  }
  return status;
}

/** The error, with the clip of a batch that it is about. */
function named(error: TilereelError, { out }: Clip): TilereelError {
  return new TilereelError(`${out}: ${error.message}`, { cause: error });
}

/** Embeddings are one encoded prompt: what speaks of prompts and of encoding them contradicts them. */
function checkEmbeddingsAlone(values: OptionValues<typeof options>): void {
  if (values.embeddings === undefined) return;
  const other = (["prompts", "negative", "text-encoder"] as const).find((name) => values[name] !== undefined);
  if (other === undefined) return;
  throw new TilereelError(
    `--${other} cannot be used with --embeddings, which stand for one encoded prompt: leave one out`,
  );
}

function fittingEmbeddings(path: string, { positive, negative }: EmbeddingsFile, textDim: number): PromptEmbeddings {
  const channels = positive.shape.at(-1);
  if (channels !== textDim) {
    throw new TilereelError(
      `--embeddings ${path} have ${channels} channels, but the transformer takes ${textDim}: ` +
        `use those of the text encoder that it was trained with`,
    );
  }
  return { positive: positive.data, ...negative && { negative: negative.data } };
}

function summary(
  clip: Clip,
  settings: ClipSettings,
  bytes: number,
  seconds: number,
  noise: string | undefined,
  { precision, precisionReason }: GpuSettings,
): string {
  const { width, height, frames, fps, steps, guidance, seed, scheduler, flowShift, sigmas } = settings;
  const sampling = [
    noise === undefined ? `seed ${seed}` : `noise from ${noise}`,
    `${steps} ${steps === 1 ? "step" : "steps"}`,
    `guidance ${guidance}`,
    ...scheduler ? [scheduler] : [],
    ...flowShift ? [`flow shift ${flowShift}`] : [],
    ...sigmas ? [`sigmas ${sigmas}`] : [],
    `${precision} (${precisionReason})`,
  ];
  return `${clip.out}: ${width}x${height}, ${frames} ${frames === 1 ? "frame" : "frames"} at ${fps} fps, ${
    formatBytes(bytes)
  }, ` +
    `in ${seconds < 10 ? `${seconds.toFixed(1)} s` : formatDuration(seconds)}\n  ${sampling.join(", ")}`;
}

function attentionLine(kind: string, { density, whyFull }: AttentionReport): string {
  const why = whyFull === undefined ? "" : `: ${whyFull}`;
  return `  attention: ${kind}, ${(100 * density).toFixed(1)} % of the pairs of full attention${why}`;
}

function formatBytes(bytes: number): string {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function printJson(object: unknown): void {
  console.log(JSON.stringify(object));
}
