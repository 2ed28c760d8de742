import { listAdapters, openGpu } from "../../gpu/native/open.ts";
import type { AdapterDescription } from "../../gpu/device/adapter.ts";
import { dawnAddon } from "../../gpu/native/dawn_addon.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import type { Operands, Precision } from "../../gpu/precision.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import { openModel } from "../../model/checkpoint/model_folder.ts";
import { folderAt } from "../../model/files/disk.ts";
import type { WeightDtypeChoice } from "../../model/weights/weight_dtype.ts";
import { formatDuration } from "../../tools/program/format_duration.ts";
import { type ClipNeeds, clipNeeds } from "../info/clip_needs.ts";
import { knownGpu } from "../../model/estimate/gpus.ts";
import { type FileDescription, fileOrRefusal, fileText } from "../info/file_description.ts";
import { type KernelsInUse, kernelsInUse } from "../../gpu/tuning/in_use.ts";
import type { Distilled } from "../../model/family.ts";
import { clipRecordOf, clipText, isClip } from "../info/clip_description.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { precisionOption } from "../../tools/program/gpu_options.ts";
import { kernelsText } from "../info/kernels_text.ts";
import {
  type ComponentDescription,
  describeModel,
  type ModelDescription,
  type WeightsHeld,
} from "../info/model_description.ts";
import type { ImageNeeds } from "../../model/pictures_of_clip.ts";
import { flag, inGroup, type OptionValues, text } from "../../tools/program/options.ts";
import { weightDtypeOption } from "../../tools/program/model_options.ts";
import { textTable } from "../../tools/program/text_table.ts";

const options = inGroup("Output", {
  gpu: text({
    value: "NAME",
    completion: ["auto", "vulkan", "gl", "dawn"],
    help: 'Show what a command with this --gpu would run on; "dawn" shows the adapters of Dawn.',
    default: "auto",
  }),
  precision: precisionOption("Output"),
  "weight-dtype": weightDtypeOption,
  json: flag({ help: "Print one JSON object instead of tables." }),
});

/** `tilereel info`: shows the adapters of this machine, and the contents of a model folder. */
export const command = defineCommand({
  name: "tilereel info",
  description: "Shows the GPU adapters of this machine with their features and limits, which one is used and why, in " +
    "what precision and with which kernels. Given a model, also shows its parts with their weights, its " +
    "defaults, the GPU memory that its clips take here and about how long; no weights are read. Given another file, such " +
    "as a LoRA, a VAE or a router, says what it is and what it is for. Given a clip that tilereel wrote, shows how it was made and " +
    "the command line that repeats it.",
  positional: "[MODEL|FILE|CLIP]",
  completion: "file",
  options,
  examples: {
    "tilereel info": "Shows the adapters, best first.",
    "tilereel info --gpu dawn": "Shows the adapters of Dawn, which is optional.",
    "tilereel info Wan2.1-T2V-1.3B-Diffusers": "Also shows what that model folder holds.",
    "tilereel info style.safetensors": "Says what a file is, and which option takes it.",
    "tilereel info out/a-red-circle-7.mp4": "Shows how a clip was made.",
    "tilereel info --json | jq '.adapters[0].name'": "Prints the name of the best adapter.",
  },
  run,
});

async function run(values: OptionValues<typeof options>, [folder]: readonly string[]): Promise<number> {
  const { gpu = "auto", json = false } = values;
  if (folder !== undefined && await isClip(folder)) {
    const record = await clipRecordOf(folder);
    console.log(json ? JSON.stringify(record, null, 2) : await clipText(folder, record));
    return 0;
  }
  const adapters = await listAdapters(gpu), dtype = values["weight-dtype"] ?? "auto";
  const opened = adapters.length === 0 ? undefined : await openGpu({
    ...values.gpu !== undefined && { choice: values.gpu },
    precision: values.precision ?? "auto",
  });
  try {
    const used = opened && await usedAdapter(opened, values.gpu);
    const held = { f16: opened?.f16 ?? false, int8: opened?.int8 ?? false, dtype };
    const { model, file } = folder === undefined ? {} : await describe(folder, held);
    const needs = model && opened && await needsOf(folder!, opened, dtype);
    if (json) {
      const all = { adapters, used, model: model && { ...model, ...needs && { needs } }, file };
      console.log(JSON.stringify(all, null, 2));
    } else {
      const lines = [adaptersText(adapters, gpu), ...used ? [usedText(used)] : []];
      const ofModel = model ? [[modelText(model), ...needs ? [needsText(needs, opened)] : []].join("\n")] : [];
      console.log([...lines, ...ofModel, ...file ? [fileText(file)] : []].join("\n\n"));
    }
  } finally {
    opened?.close();
  }
  return 0;
}

/** A model, or a file that is none. */
async function describe(
  path: string,
  held: WeightsHeld,
): Promise<{ readonly model?: ModelDescription; readonly file?: FileDescription }> {
  try {
    return { model: await describeModel(path, held) };
  } catch (error) {
    if (!(error instanceof TilereelError) || await folderAt(path).kind() !== "file") throw error;
    return { file: await fileOrRefusal(path, error) };
  }
}

/** What its clips need; undefined if a part is damaged or another family's. */
async function needsOf(path: string, gpu: Gpu, dtype: WeightDtypeChoice): Promise<readonly ClipNeeds[] | undefined> {
  using model = await openModel(path).catch((error) => {
    if (!(error instanceof TilereelError)) throw error;
    return undefined;
  });
  return model && await clipNeeds(gpu, model, dtype);
}

/** The adapter that is used, and how. */
interface UsedAdapter {
  readonly adapter: string;
  readonly source: string;
  readonly why: string;
  readonly precision: Precision;
  /** Of matrix products; with int8, of all that are not in int8. */
  readonly operands: Operands;
  readonly precisionReason: string;
  readonly kernels: KernelsInUse;
}

async function usedAdapter(gpu: Gpu, choice: string | undefined): Promise<UsedAdapter> {
  const { precision, settings: { precision: operands, precisionReason, description } } = gpu;
  const { name: adapter, source } = description, kernels = await kernelsInUse(gpu);
  return { adapter, source, why: reason(description, choice), precision, operands, precisionReason, kernels };
}

function usedText(used: UsedAdapter): string {
  return [
    `Used: ${used.adapter}, ${used.why}.`,
    `Precision: ${used.precision}, ${used.precisionReason}.`,
    `Kernels: ${kernelsText(used.kernels)}`,
  ].join("\n");
}

/** Why an adapter is used, and whether Dawn is. */
function reason({ source }: AdapterDescription, choice: string | undefined): string {
  if (source === "dawn") return `through Dawn, because of --gpu ${choice}; addon: ${dawnAddon()}`;
  const why = choice === undefined ? "it is the first one" : `because of --gpu ${choice}`;
  const addon = dawnAddon();
  return `through Deno's own WebGPU: ${why}, and Dawn ` +
    (addon === undefined ? "is not installed (deno task dawn)" : `is used only with --gpu dawn; addon: ${addon}`);
}

function adaptersText(adapters: readonly AdapterDescription[], choice: string): string {
  if (adapters.length === 0) {
    return choice.startsWith("dawn")
      ? "No adapter for Dawn: install a Vulkan driver for your GPU."
      : "No WebGPU adapter: install a Vulkan driver for your GPU, or software rendering " +
        "(on Debian and Ubuntu: apt install libegl1 libgl1-mesa-dri).";
  }
  return adapters.map((adapter, i) => {
    const rows = [
      ["kind", adapter.software ? "software (runs on the CPU)" : "GPU"],
      ["features", adapter.features.join(", ") || "none of those tilereel can use"],
      ...Object.entries(adapter.limits).map(([name, value]) => [name, formatLimit(name, value)]),
    ];
    return `Adapter ${i + 1}: ${adapter.name}\n${textTable(rows)}`;
  }).join("\n\n");
}

function modelText(model: ModelDescription): string {
  const parts = [
    ["part", "parameters", "stored as", "files", "size", "on the GPU"],
    ...model.components.map(({ name, parameters, dtypes, files, onGpu }) => [
      name,
      formatCount(parameters),
      dtypes.join(", "),
      String(files.length),
      formatBytes(files.reduce((sum, file) => sum + file.bytes, 0)),
      onGpuText(name, onGpu),
    ]),
  ];
  const { width, height, frames, fps, steps, guidance, guidanceLow, textTokens, trained = [] } = model.defaults;
  const without = model.missing.filter((part) => part.startsWith("text_encoder") || part.startsWith("tokenizer"));
  return [
    `Model: ${model.path} (${model.kind})`,
    textTable(parts),
    `  without weights: ${model.withoutWeights.join(", ") || "nothing"}${
      model.missing.length > 0 ? `; missing: ${model.missing.join(", ")}` : ""
    }`,
    `  defaults: ${width}x${height}, ${frames} frames at ${fps} fps, ${steps} steps, guidance ${guidance}` +
    `${guidanceLow === undefined ? "" : ` and ${guidanceLow} at low noise`}, ` +
    `${textTokens} text tokens`,
    ...trained.flatMap(({ width, height, frames, flowShift }) =>
      flowShift === undefined ? [] : [
        `  flow shift: ${flowShift} for clips to which ${width}x${height} with ${frames} frames is the nearest trained size`,
      ]
    ),
    without.length === 0
      ? "  runs: yes"
      : `  runs: with --text-encoder FILE or --embeddings FILE, because it comes without ${without.join(" and ")}`,
    ...model.images ? [`  pictures: ${imagesText(model.images)}`] : [],
    ...model.distilled ? [`  distilled: ${distilledText(model.distilled)}`] : [],
  ].join("\n");
}

/** What clips need, as a table and a sentence. */
function needsText(needs: readonly ClipNeeds[], gpu: Gpu | undefined): string {
  const gigabytes = (bytes: number | undefined) =>
    bytes === undefined ? "does not run" : `${(bytes / 1e9).toFixed(1)} GB`;
  const isTimed = needs.some(({ seconds }) => seconds !== undefined), known = gpu && knownGpu(gpu);
  const rows = [
    ["clip", "precision", "GPU memory", "with --weights stream", ...isTimed ? ["takes about"] : []],
    ...needs.map(({ width, height, frames, precision, memory: { resident, stream }, seconds }) => [
      `${width}x${height}, ${frames} frames`,
      precision,
      gigabytes(resident),
      gigabytes(stream),
      ...isTimed ? [seconds === undefined ? "" : formatDuration(seconds)] : [],
    ]),
  ];
  const time = isTimed
    ? `Times start from an H200's and what is published of both it and ${
      known!.name
    }; they may be off by a factor of two.`
    : "About how long a clip takes is not known of this adapter.";
  return `  clips need, as counted for this adapter, with full attention and text from a file:\n${
    textTable(rows)
  }\n  ${time}`;
}

function imagesText({ image, lastImage }: ImageNeeds): string {
  const all = [["--image", image], ["--last-image", lastImage]].filter(([, need]) => need !== "none");
  return all.map(([option, need]) => `${option} is ${need}`).join(", ");
}

function distilledText({ name, preset: { scheduler, sigmas, flowShift }, sparsity }: Distilled): string {
  const sampled = `${name}, scheduler ${scheduler}, sigmas ${sigmas.join(",")}, flow shift ${flowShift}`;
  return sparsity === undefined ? sampled : `${sampled}, attention vsa at a sparsity of ${sparsity}`;
}

function onGpuText(part: string, { dtypes, bytes, blockBytes }: ComponentDescription["onGpu"]): string {
  const block = blockBytes === undefined ? "" : `${formatBytes(blockBytes)} a block`;
  const size = part === "text_encoder" ? block : [formatBytes(bytes), ...block ? [block] : []].join(", ");
  return `${dtypes.join(" and ")}, ${size}`;
}

function formatLimit(name: string, value: number): string {
  return /Size$/.test(name) ? formatBytes(value) : String(value);
}

function formatCount(count: number): string {
  for (const [unit, size] of [[" billion", 1e9], [" million", 1e6], [" thousand", 1e3]] as const) {
    if (count >= size) return (count / size).toFixed(2) + unit;
  }
  return String(count);
}
