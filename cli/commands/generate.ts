import { TilereelError } from "../../gpu/common/errors.ts";
import { batchOptions } from "../../tools/program/clip/batch_options.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { generate } from "../generate/generate.ts";
import { PREVIEW_FILE } from "../generate/preview.ts";
import { addressOption } from "../split_guidance/address_option.ts";
import { tokenOption } from "../token.ts";
import { alone, choice, flag, inGroup, type OptionValues, path, text } from "../../tools/program/options.ts";
import { shardOption } from "../shards/shard.ts";
import { profileOption } from "../../tools/program/profile.ts";
import { VIDEO_FORMATS } from "../../model/video/write_video.ts";
import { modelOptions } from "../../tools/program/model_options.ts";

const options = {
  ...inGroup("Output", {
    out: path({
      short: "o",
      value: "PATH",
      help: "FILE.mp4, FILE.gif, FILE.png (a sheet of eight frames) or DIR/ (every frame as a PNG). Missing " +
        "folders are created, and an existing file is replaced. With --prompts or --count, this is the folder " +
        "of the clips.",
      elsewhere: ["output", "output-path", "save-file"],
      default: "out/<prompt>-<seed>.mp4; if another clip has that name, -2, -3 … is added",
    }),
    overwrite: flag({
      help: "Replace existing clips that were made with other settings; without this option they are kept. Clips " +
        "that were made with the same settings are skipped.",
      elsewhere: ["force", "f", "y"],
    }),
    "no-resume": flag({
      help:
        "Begin clips anew that were broken off. Without this option, the same command goes on with them, and ends " +
        "with the same bytes: clips that take longer than two minutes are kept about once a minute.",
      elsewhere: ["restart", "fresh"],
    }),
    format: choice({
      choices: VIDEO_FORMATS,
      help: "Format of the clips if --out does not name a file.",
      default: "mp4",
    }),
    json: flag({
      help: "Print one JSON object per clip on the standard output, and nothing else: its record, file and size, " +
        "or why it could not be made.",
    }),
    preview: alone(
      path({
        value: "FILE",
        help:
          "Show the clip while it forms, in a file that image viewers load again: FILE.gif, or FILE.png (a sheet of " +
          "eight frames) or FILE.mp4, which is kept. Without FILE, it lies beside the clip, and is removed when that is " +
          "done. It is decoded by --preview-vae, or by a tiny --vae, and without them roughly and without any cost.",
        elsewhere: ["preview-path", "preview-method", "preview-interval"],
        default: "none; without FILE, CLIP.preview.gif",
      }),
      PREVIEW_FILE,
    ),
    profile: profileOption,
    quiet: flag({ short: "q", help: "Print nothing but errors (and what --json asks for)." }),
  }),
  ...modelOptions,
  "preview-vae": path({
    group: "Model",
    value: "FILE",
    help:
      "Decode previews by this tiny autoencoder (TAEHV), such as taew2_1.safetensors, where it fits the memory beside " +
      "the work.",
    elsewhere: ["taesd", "tae"],
  }),
  embeddings: path({
    group: "Model",
    value: "FILE",
    help: "Use the embeddings in this safetensors file instead of encoding the prompt, which then only names the " +
      'output. The file has the tensor "prompt_embeds" and, for guidance, "negative_prompt_embeds". The ' +
      "model then needs no text encoder.",
  }),
  ...inGroup("Prompts", {
    prompt: text({ value: "TEXT", help: "The prompt, if PROMPT is not given." }),
    prompts: path({
      short: "p",
      value: "FILE",
      help: "Render many prompts: a file with one prompt per line, or one JSON object per line (JSONL) such as " +
        '{"prompt": "a red circle", "seed": 7, "count": 2, "attention": "vorta"}, whose keys are the clip, ' +
        'sampling and attention options, quality and out. "-" reads the standard input. Existing clips are ' +
        "skipped, so run the command again to continue an interrupted batch. Blank lines and lines that begin " +
        "with # are ignored.",
      elsewhere: ["prompt-file", "from-file"],
    }),
    shard: shardOption("Render a part of the clips of --prompts in this process, and the others elsewhere."),
    like: path({
      value: "CLIP",
      help: "Repeat a clip that tilereel wrote: prompt, seed and all settings come from its file. Options on the " +
        "command line take precedence. With another --size, the flow shift is what the model has for that size, unless " +
        "the clip had one of its own.",
      elsewhere: ["from-clip", "same-as"],
    }),
  }),
  ...batchOptions,
  ...inGroup("Two GPUs", {
    "split-guidance": addressOption({
      help: "Let an assistant with a GPU of its own compute the pass of the negative prompt, at the same time: start " +
        'it there with "tilereel assist" and the same model options. The clip has the same bytes. If the assistant ' +
        "fails, the clip goes on without it.",
      elsewhere: ["cfg-parallel", "use-cfg-parallel", "cfg-size"],
      default: "none",
    }),
    token: tokenOption("The secret that the assistant was started with."),
  }),
  latents: path({
    group: "Sampling",
    value: "FILE",
    help: 'Safetensors file with the noise to start from: its only tensor, or the one called "latents" or ' +
      '"latents.init".',
    default: "noise from the seed",
  }),
};

/** Values of the options that were given. */
export type GenerateValues = OptionValues<typeof options>;

/** `tilereel generate`: renders videos from prompts. */
export const command = defineCommand({
  name: "tilereel generate",
  description: "Renders a video from a text prompt and, with models of image to video, from a picture.",
  positional: "PROMPT",
  options,
  examples: {
    'tilereel generate "a red circle moving right on a black background"': "Writes an MP4 into out/.",
    'tilereel generate "a blue square" --seed 7 --steps 20 --out square.gif':
      "Writes a GIF; the seed makes it repeatable.",
    'tilereel generate "a cat on a beach" --model Wan2.1-T2V-1.3B-Diffusers --size 832x480 --frames 33':
      "Renders a shorter clip with real Wan weights.",
    'tilereel generate "the fox turns its head" --model Wan2.2-TI2V-5B-Diffusers --image fox.jpg':
      "Makes video of a picture.",
    'tilereel generate "a yellow ring" --attention vorta --tau 0.5': "Uses sparse attention with the model's router.",
    'tilereel generate "a yellow ring" --attention veda --keep 0.2 --dense-layers 0,1': "Keeps a fifth of the tiles.",
    'tilereel generate "a yellow ring" --count 4 --seed 7 --out rings --format gif':
      "Writes four GIFs with the seeds 7 to 10.",
    'tilereel generate "a red circle spinning" --preview': "Shows the clip while it forms, in a file beside it.",
    'tilereel generate "a red circle" --split-guidance localhost:8643':
      "Renders with two GPUs, if tilereel assist runs there.",
    "tilereel generate --prompts prompts.txt --out clips": "Renders many clips; run it again to resume.",
    "tilereel generate --prompts prompts.txt --out clips --shard 2/4":
      "Renders a quarter of them, as one of four processes.",
    "tilereel generate --like clips/0001-a-red-circle-7.mp4 --steps 40 --out better.mp4":
      "Renders the same clip with more steps.",
    'tilereel generate "a green cross" --out frames/ --json': "Writes frames as PNG and prints the record as JSON.",
  },
  notes: "The embedded model draws coloured shapes that move, and nothing else: a [small|big] COLOUR circle, square, " +
    "triangle, diamond, ring or cross that is moving right, left, up or down, bouncing, circling, growing, shrinking, " +
    "spinning or standing still [and a second one] on a [striped|checkered] black, gray, navy, teal or maroon background. " +
    "It draws clips of 128x128, of 256x256 (--size 256x256), and of 512x512 (--size 512x512 --frames 61).",
  run,
});

async function run(values: GenerateValues, [positional]: readonly string[]): Promise<number> {
  if (positional !== undefined && values.prompt !== undefined) {
    throw new TilereelError("the prompt was given twice: give it either as --prompt TEXT or without an option");
  }
  checkTogether(values);
  return await generate(values, positional ?? values.prompt);
}

/** Embeddings are one encoded prompt, and start noise replaces one seed, so options for others contradict them. */
function checkTogether(values: GenerateValues): void {
  const { embeddings, latents, count = 1 } = values;
  if (values.shard !== undefined && values.prompts === undefined) {
    throw new TilereelError("--shard is a part of the clips of --prompts FILE, which is missing: add it");
  }
  const other = (["prompts", "negative", "text-encoder", "text-encoder-2"] as const).find((name) =>
    values[name] !== undefined
  );
  if (embeddings !== undefined && other !== undefined) {
    throw new TilereelError(
      `--${other} cannot be used with --embeddings, which are one encoded prompt: leave one of them out`,
    );
  }
  if (values["preview-vae"] !== undefined && values.preview === undefined) {
    throw new TilereelError("--preview-vae decodes previews, but none are asked for: add --preview");
  }
  if (latents !== undefined && count > 1) {
    throw new TilereelError(
      "--count cannot be used with --latents, because all clips would be the same: leave one of them out",
    );
  }
}
