/**
 * `deno task bench:memory`: the GPU memory that rendering a clip takes, counted without a GPU.
 *
 * @module
 */
import { clipOptions } from "../tools/program/clip/clip_options.ts";
import { choice, flag, memory, number, type OptionValues } from "../tools/program/options.ts";
import { weightDtypeOption, weightsOption } from "../tools/program/model_options.ts";
import { runAsProgram } from "../tools/program/run_command.ts";
import { type DryGpuOptions, NVIDIA_MATRIX_UNITS } from "../gpu/device/dry.ts";
import { formatBytes } from "../gpu/common/format_bytes.ts";
import { TilereelError } from "../gpu/common/errors.ts";
import type { AttentionMethod } from "../model/attention/method.ts";
import { vedaAttention } from "../model/veda/methods.ts";
import { singleBranch } from "../model/vorta/methods.ts";
import { defaultSettings } from "../model/vorta/settings.ts";
import { countMemory, DRY_MODELS, type MemoryCase } from "./memory/count.ts";
import { type MemoryCount, STAGES } from "../model/estimate/clip_memory.ts";
import { benchOptions, storedOption } from "./program.ts";
import { tableOf } from "./table.ts";

const METHODS: Readonly<Record<string, AttentionMethod | undefined>> = {
  full: undefined,
  sliding: singleBranch("sliding", defaultSettings),
  coreset: singleBranch("coreset", defaultSettings),
  veda: vedaAttention({ keep: 0.1 }),
};

const options = {
  model: choice({
    choices: Object.keys(DRY_MODELS) as MemoryCase["model"][],
    help: "The model whose memory is counted.",
    default: "a table of all",
  }),
  size: clipOptions.size,
  frames: clipOptions.frames,
  guidance: number({ help: "1 turns guidance off.", default: 5, min: 0 }),
  weights: weightsOption,
  "weight-dtype": weightDtypeOption,
  stored: storedOption("f32"),
  attention: choice({
    choices: Object.keys(METHODS),
    help: "The attention method; veda keeps a tenth of the tiles.",
    default: "full",
  }),
  precision: choice({
    choices: ["f32", "f16", "matrix", "int8", "matrix-int8"],
    help: "Number format of the operands of matrix products: matrix is f16 with matrix units; int8 is beside f16 " +
      "without them, matrix-int8 with them.",
    default: "f32",
  }),
  memory: memory({ value: "LIMIT", help: "As for generate.", default: "8 GB" }),
  parts: flag({ help: "List what lies in memory at each peak." }),
  json: benchOptions.json,
};

const SMALL = { model: "1.3B", width: 832, height: 480 } as const;
const LARGE = { model: "14B", width: 1280, height: 720, frames: 81 } as const;
const HUNYUAN = { model: "HunyuanVideo", width: 1280, height: 720, frames: 117 } as const;
/** A card of 24 GB, of which the driver takes one. */
const CARD = { memoryLimit: 23e9 };
const SERVER = { memoryLimit: 80e9 };

/** A case whose method is told by its name. */
type NamedCase = Omit<MemoryCase, "attention"> & { readonly method?: string };

/** The cases that are counted by default. */
const CASES: readonly NamedCase[] = [
  { ...SMALL, frames: 33, weights: "resident" },
  { ...SMALL, frames: 81, weights: "resident" },
  { ...SMALL, frames: 81, weights: "stream" },
  { ...SMALL, frames: 81, weights: "resident", method: "veda" },
  { ...SMALL, frames: 81, weights: "resident", device: SERVER },
  { ...LARGE, weights: "auto", device: CARD },
  { ...LARGE, weights: "auto", method: "veda", device: CARD },
  { ...LARGE, weights: "resident", device: SERVER },
  // What people have: 6, 12 and 16 GB.
  { ...SMALL, frames: 81, weights: "auto", device: { memoryLimit: 6e9 } },
  { ...SMALL, model: "14B", frames: 81, weights: "auto", device: { memoryLimit: 12e9 } },
  { ...SMALL, model: "I2V A14B", frames: 81, weights: "auto", device: { memoryLimit: 16e9 } },
  { ...HUNYUAN, weights: "auto", device: CARD },
  { ...HUNYUAN, weights: "resident", device: SERVER },
];

/** The largest kinds of buffers that are listed. */
const PARTS = 6;

if (import.meta.main) await runAsProgram({ name: "deno task bench:memory", options, run: main });

async function main(values: OptionValues<typeof options>): Promise<void> {
  const ofOne = (["size", "frames", "guidance", "weights", "attention", "memory"] as const)
    .find((name) => values[name] !== undefined);
  if (values.model === undefined && ofOne) {
    throw new TilereelError(`--${ofOne} is for one model, but all are counted; name one with --model`);
  }
  const { model, size = { width: 832, height: 480 }, frames = 81, weights = "auto", guidance = 5, precision } = values;
  const operands = operandsOf(precision);
  const device = { ...operands, ...values.memory !== undefined && { memoryLimit: values.memory } };
  const files = {
    stored: values.stored === "bf16" ? "BF16" : "F32",
    weightDtype: values["weight-dtype"] ?? "auto",
  } as const;
  const cases: readonly NamedCase[] = model === undefined
    ? CASES.map((one) => ({ ...one, ...files, device: { ...one.device, ...operands } }))
    : [{ model, ...files, ...size, frames, weights, guidance, device, method: values.attention ?? "full" }];
  const counted: Counted[] = [];
  for (const one of cases) {
    const { method = "full", ...rest } = one, attention = METHODS[method];
    const count = await countMemory({ ...rest, ...attention && { attention } });
    counted.push({ ...one, method, ...count });
    if (values.json) console.log(JSON.stringify(counted.at(-1)));
    else if (values.parts) console.log(partsText(counted.at(-1)!));
  }
  if (!values.json) console.log(table(counted));
}

/** The options of a dry device for --precision. */
function operandsOf(precision: OptionValues<typeof options>["precision"] = "f32"): DryGpuOptions {
  if (precision === "f32") return { precision };
  const units = precision.startsWith("matrix");
  return { precision: "f16", int8: precision.endsWith("int8"), ...units && { matrixUnits: NVIDIA_MATRIX_UNITS } };
}

interface Counted extends NamedCase, MemoryCount {
  readonly method: string;
}

function table(counted: readonly Counted[]): string {
  const limit = ({ device: { memoryLimit } = {} }: Counted) =>
    memoryLimit === undefined ? "none" : `${memoryLimit / 1e9} GB`;
  return tableOf(counted, {
    "model": (c) => c.model,
    "clip": ({ width, height, frames }) => `${width}x${height}, ${frames} frames`,
    "limit": limit,
    "weights": (c) => c.place,
    "attention": (c) => c.method,
    ...Object.fromEntries(STAGES.map((stage) => [stage, (c: Counted) => gigabytes(c.peaks[stage].held)])),
    "tiles": (c) => String(c.tiles),
  });
}

function partsText({ model, width, height, frames, peaks }: Counted): string {
  return STAGES.map((stage) => {
    const { held, parts } = peaks[stage];
    const largest = parts.slice(0, PARTS).map(({ label, count, bytes }) =>
      `  ${gigabytes(bytes)} GB: ${count} of ${formatBytes(bytes / count)}, ${label}`
    );
    return [`${model}, ${width}x${height}, ${frames} frames, ${stage}: ${gigabytes(held)} GB`, ...largest].join("\n");
  }).join("\n") + "\n";
}

function gigabytes(bytes: number): string {
  return (bytes / 1e9).toFixed(2);
}
