/**
 * `deno task bench:memory`: the GPU memory that rendering a clip takes, counted without a GPU.
 *
 * @module
 */
import { clipOptions } from "../tools/program/clip/clip_options.ts";
import { choice, flag, memory, number, type OptionValues } from "../tools/program/options.ts";
import { weightDtypeOption, weightsOption } from "../tools/program/model_options.ts";
import { NVIDIA_MATRIX_UNITS } from "../gpu/device/dry.ts";
import { formatBytes } from "../gpu/common/format_bytes.ts";
import { TilereelError } from "../gpu/common/errors.ts";
import type { AttentionMethod } from "../model/attention/method.ts";
import { vedaAttention } from "../model/veda/methods.ts";
import { singleBranch } from "../model/vorta/methods.ts";
import { defaultSettings } from "../model/vorta/settings.ts";
import { countMemory, type MemoryCase, type MemoryCount, STAGES } from "./memory/count.ts";
import { DRY_MODELS } from "./memory/dry_model.ts";
import { runAsProgram } from "../tools/program/run_as_program.ts";
import { markdownTable } from "./table.ts";

const GROUP = "Memory";

const METHODS: Readonly<Record<string, AttentionMethod | undefined>> = {
  full: undefined,
  sliding: singleBranch("sliding", defaultSettings),
  coreset: singleBranch("coreset", defaultSettings),
  veda: vedaAttention({ keep: 0.1 }),
};

const options = {
  model: choice({ group: GROUP, choices: DRY_MODELS, help: "Whose shapes.", default: "a table of both" }),
  size: clipOptions.size,
  frames: clipOptions.frames,
  guidance: number({ group: GROUP, value: "X", help: "1 turns guidance off.", default: "5", min: 0 }),
  weights: weightsOption,
  "weight-dtype": weightDtypeOption,
  stored: choice({
    group: GROUP,
    choices: ["f32", "bf16"],
    help: "Format of the transformer's files: Wan-AI's own are f32.",
    default: "f32",
  }),
  attention: choice({
    group: GROUP,
    choices: ["full", "sliding", "coreset", "veda"],
    help: "How; veda keeps a tenth.",
    default: "full",
  }),
  precision: choice({
    group: GROUP,
    choices: ["f32", "f16", "matrix"],
    help: "Of matrix operands: matrix is f16 as matrix units take it.",
    default: "f32",
  }),
  memory: memory({ group: GROUP, value: "LIMIT", help: "As for generate.", default: "8 GB" }),
  parts: flag({ group: GROUP, help: "List what lies in memory at each peak." }),
  json: flag({ group: GROUP, help: "Print JSON instead of a table." }),
};

const SMALL = { model: "1.3B", width: 832, height: 480 } as const;
const LARGE = { model: "14B", width: 1280, height: 720, frames: 81 } as const;
const CARD = { memoryLimit: 24e9 }, SERVER = { memoryLimit: 80e9 };

/** What is counted where no model is named. */
const CASES: readonly (MemoryCase & { readonly method?: string })[] = [
  { ...SMALL, frames: 33, weights: "resident" },
  { ...SMALL, frames: 81, weights: "resident" },
  { ...SMALL, frames: 81, weights: "stream" },
  { ...SMALL, frames: 81, weights: "resident", method: "veda" },
  { ...SMALL, frames: 81, weights: "resident", device: SERVER },
  { ...LARGE, weights: "stream", device: CARD },
  { ...LARGE, weights: "stream", method: "veda", device: CARD },
  { ...LARGE, weights: "resident", device: SERVER },
];

/** Largest kinds of buffers that are listed. */
const PARTS = 6;

if (import.meta.main) await runAsProgram({ command: "deno task bench:memory", options, run: main });

async function main(values: OptionValues<typeof options>): Promise<void> {
  const ofOne = (["size", "frames", "guidance", "weights", "attention", "memory"] as const)
    .find((name) => values[name] !== undefined);
  if (values.model === undefined && ofOne) {
    throw new TilereelError(
      `--${ofOne} is of one clip, and without --model a table of several is counted: add --model`,
    );
  }
  const { model, size = { width: 832, height: 480 }, frames = 81, weights = "auto", guidance = 5 } = values;
  const operands = {
    ...values.precision === "matrix"
      ? { precision: "f16" as const, matrixUnits: NVIDIA_MATRIX_UNITS }
      : values.precision !== undefined && { precision: values.precision },
  };
  const device = { ...operands, ...values.memory !== undefined && { memoryLimit: values.memory } };
  const files = {
    stored: values.stored === "bf16" ? "BF16" : "F32",
    weightDtype: values["weight-dtype"] ?? "auto",
  } as const;
  const cases = model === undefined
    ? CASES.map((one) => ({ ...one, ...files, device: { ...one.device, ...operands } }))
    : [{ model, ...files, ...size, frames, weights, guidance, device, method: values.attention ?? "full" }];
  const rows: string[][] = [["model", "clip", "limit", "weights", "attention", ...STAGES, "tiles"]];
  for (const one of cases) {
    const { method = "full" } = one, attention = METHODS[method];
    const count = await countMemory({ ...one, ...attention && { attention } });
    if (values.json) console.log(JSON.stringify({ ...one, method, ...count }));
    else if (values.parts) console.log(partsText(one, count));
    rows.push(row(one, method, count));
  }
  if (!values.json) console.log(markdownTable(rows));
}

function gigabytes(bytes: number): string {
  return (bytes / 1e9).toFixed(2);
}

function row({ model, width, height, frames, device }: MemoryCase, method: string, count: MemoryCount): string[] {
  const { memoryLimit } = device ?? {};
  return [
    model,
    `${width}x${height}, ${frames} frames`,
    memoryLimit === undefined ? "none" : `${memoryLimit / 1e9} GB`,
    count.place,
    method,
    ...STAGES.map((stage) => gigabytes(count.peaks[stage].held)),
    String(count.tiles),
  ];
}

function partsText({ model, width, height, frames }: MemoryCase, { peaks }: MemoryCount): string {
  return STAGES.map((stage) => {
    const { held, parts } = peaks[stage];
    const largest = parts.slice(0, PARTS).map(({ label, count, bytes }) =>
      `  ${gigabytes(bytes)} GB: ${count} of ${formatBytes(bytes / count)}, ${label}`
    );
    return [`${model}, ${width}x${height}, ${frames} frames, ${stage}: ${gigabytes(held)} GB`, ...largest].join("\n");
  }).join("\n") + "\n";
}
