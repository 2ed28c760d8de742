/**
 * The table of README by which a reader decides: about how long a clip takes on a common GPU, and whether it fits.
 *
 * @module
 */
import { NVIDIA_MATRIX_UNITS } from "../../gpu/device/dry.ts";
import { product } from "../../model/attention/grid.ts";
import { clipSeconds, type ClipShape, clipWork } from "../../model/estimate/clip_time.ts";
import { type GpuModel, GPUS, MEASURED_GPU } from "../../model/estimate/gpus.ts";
import { type AllRates, RATES, type Rates, type RatesByWidth } from "../../model/estimate/rates.ts";
import type { ClipSize } from "../../model/video_size.ts";
import { countMemory, DRY_MODELS, type MemoryCase } from "../memory/count.ts";
import { SHAPES } from "../shapes.ts";
import { markdownTable } from "../table.ts";
import type { Precision, Results, Source } from "./measured.ts";

/** A clip and its settings, which a column of the table is for. */
interface Setting {
  readonly heading: string;
  readonly model: MemoryCase["model"];
  readonly size: ClipSize;
  readonly precision: Precision;
  /** Forward passes of all steps. */
  readonly passes: number;
  /** The share of the pairs of full attention. */
  readonly density: number;
  readonly guidance: number;
}

const P480 = { width: 832, height: 480, frames: 81 }, P720 = { width: 1280, height: 720, frames: 81 };
/** The densities of Veda at keep 0.1, of VSA at a sparsity of 0.8, and of VORTA with 30 % of heads full. */
const VEDA = .09, VSA = .2, VORTA = .475;

const of = (
  heading: string,
  model: Setting["model"],
  size: ClipSize,
  precision: Precision,
  density: number,
  { passes, guidance }: { readonly passes: number; readonly guidance: number } = { passes: 100, guidance: 5 },
): Setting => ({ heading, model, size, precision, density, passes, guidance });

const SETTINGS: readonly Setting[] = [
  of("1.3B 480p", "1.3B", P480, "f16", 1),
  of("1.3B 480p, Veda, int8", "1.3B", P480, "int8", VEDA),
  of("FastWan 480p, 3 steps, int8", "1.3B", P480, "int8", VSA, { passes: 3, guidance: 1 }),
  of("14B 480p, Veda, int8", "14B", P480, "int8", VEDA),
  of("14B 720p", "14B", P720, "f16", 1),
  of("14B 720p, Veda, int8", "14B", P720, "int8", VEDA),
  of("HunyuanVideo 720p, VORTA, int8", "HunyuanVideo", { ...P720, frames: 117 }, "int8", VORTA, {
    ...{ passes: 50, guidance: 1 },
  }),
];

/** The memory of a setting on a GPU. */
export interface CountedMemory {
  readonly heading: string;
  readonly gpu: string;
  /** The peak in bytes; absent where the clip does not fit. */
  readonly peak?: number;
  /** Whether the transformer is read from disk in every step. */
  readonly streamed?: boolean;
}

/** The share of a GPU's memory that a clip may take. The desktop and the driver have the rest. */
const USABLE = .92;

/** Counts the memory of every setting on every GPU. GPUs with as much memory and the same kernels are counted once. */
export async function countSettings(): Promise<CountedMemory[]> {
  const known = new Map<string, Omit<CountedMemory, "heading" | "gpu">>(), counted: CountedMemory[] = [];
  for (const setting of SETTINGS) {
    for (const gpu of GPUS) {
      const key = [setting.heading, gpu.memory, gpu.matrix !== undefined].join();
      if (!known.has(key)) known.set(key, await count(setting, gpu));
      counted.push({ heading: setting.heading, gpu: gpu.name, ...known.get(key)! });
    }
  }
  return counted;
}

async function count({ model, size, precision, guidance }: Setting, { memory, matrix }: GpuModel) {
  try {
    const { place, peaks } = await countMemory({
      ...{ model, ...size, guidance, weights: "auto", stored: "F32" },
      device: {
        ...{ precision: "f16", int8: precision === "int8", memoryLimit: USABLE * memory * 1e9 },
        ...matrix ? { matrixUnits: NVIDIA_MATRIX_UNITS } : { subgroup: 32 },
      },
    });
    return { peak: Math.max(...Object.values(peaks).map(({ held }) => held)), streamed: place === "stream" };
  } catch {
    return {};
  }
}

/** The table in Markdown: for each GPU and setting the time of a clip and the memory that it takes. */
export function estimatesTable(results: Results): string {
  const { memory = [] } = results.stored, rates = ratesOf(results);
  const cell = (gpu: GpuModel, setting: Setting) => {
    const { peak, streamed } = memory.find((one) => one.gpu === gpu.name && one.heading === setting.heading) ?? {};
    if (peak === undefined) return "does not fit";
    const { steps, decode } = clipSeconds(
      gpu,
      clipWork(clipShapeOf(setting), setting.passes, setting.density),
      setting.precision,
      rates,
    );
    const shown = `${timeText(steps + decode)}, ${(peak / 1e9).toFixed(1)} GB${streamed ? ", streamed" : ""}`;
    return gpu === MEASURED_GPU ? `**${shown}**` : shown;
  };
  return markdownTable([
    ["GPU", ...SETTINGS.map(({ heading }) => heading)],
    ...GPUS.map((gpu) => [gpu.name, ...SETTINGS.map((setting) => cell(gpu, setting))]),
  ]);
}

/** The sizes of a setting's model and clip. */
export function clipShapeOf({ model, size }: Pick<Setting, "model" | "size">): ClipShape {
  const shape = SHAPES[DRY_MODELS[model]];
  const { config: { layers, dim, ffnDim }, kept } = shape, hunyuan = kept > 0;
  const tokens = product([(size.frames - 1) / 4 + 1, size.height / 16, size.width / 16]) + kept;
  return {
    ...{ layers, dim, tokens, ffnDim: hunyuan ? 4 * dim : ffnDim, pixels: size.width * size.height * size.frames },
    // HunyuanVideo has no cross-attention, but text in its self-attention; both kinds of its blocks have as many weights.
    layerWeights: hunyuan ? 12 * dim ** 2 : 6 * dim ** 2 + 2 * dim * ffnDim,
    textTokens: hunyuan ? 0 : shape.textTokens,
  };
}

/** A time as people say it: "40 s", "2.8 min", "3.1 h". */
function timeText(seconds: number): string {
  if (seconds < 60) return `${seconds.toPrecision(2)} s`;
  return seconds < 3600 ? `${significantTwo(seconds / 60)} min` : `${significantTwo(seconds / 3600)} h`;
}

const significantTwo = (value: number) => value < 10 ? value.toFixed(1) : value.toFixed(0);

/** The models whose steps are measured. */
const MEASURED = {
  narrow: { name: "1.3b", model: "1.3B", size: P480 },
  wide: { name: "14b", model: "14B", size: P720 },
} as const;

/** The rates of the steps of a model; undefined where they were not measured with that source and precision. */
export function measuredRates(
  results: Results,
  source: Source,
  precision: Precision,
  width: keyof typeof MEASURED,
): Rates | undefined {
  const { name, ...model } = MEASURED[width];
  const figure = (id: string) => results.figure(source, precision, id);
  const [full, veda, rest] = ["full", "veda 0.1", "no attention"].map((what) => figure(`step/${name}/${what}`));
  const decode = figure("decode/480p") ?? results.figure(source, "f16", "decode/480p");
  if (!full || !veda || !rest || !decode) return undefined;
  const work = clipWork(clipShapeOf(model), 2, 1), density = veda.density ?? VEDA;
  return {
    linear: work.linear / rest.value,
    dense: work.attention / (full.value - rest.value),
    sparse: density * work.attention / (veda.value - rest.value),
    decode: decode.value,
  };
}

/** All rates that estimates start from. What was not measured is as of 1.3B, as in f16, or as it was. */
export function ratesOf(results: Results): AllRates {
  const of = (path: keyof AllRates, source: Source, precision: Precision): RatesByWidth => {
    const find = (width: keyof RatesByWidth) =>
      measuredRates(results, source, precision, width) ?? measuredRates(results, source, precision, "narrow") ??
        measuredRates(results, source, "f16", width) ?? RATES[path][precision][width];
    return { narrow: find("narrow"), wide: find("wide") };
  };
  return {
    matrix: { f16: of("matrix", "dawn", "f16"), int8: of("matrix", "dawn", "int8") },
    threads: { f16: of("threads", "deno", "f16"), int8: of("threads", "deno", "int8") },
  };
}

/** The rates as the text that model/estimate/rates.ts has. */
export function ratesText(rates: AllRates): string {
  const number = (value: number) => value > 1e6 ? value.toExponential(2).replace("+", "") : value.toPrecision(3);
  const fields = (one: Rates) => Object.entries(one).map(([name, value]) => `${name}: ${number(value)}`).join(", ");
  const widths = ({ narrow, wide }: RatesByWidth) => `narrow: { ${fields(narrow)} },\nwide: { ${fields(wide)} },`;
  const paths = Object.entries(rates).map(([path, { f16, int8 }]) =>
    `${path}: {\nf16: {\n${widths(f16)}\n},\nint8: {\n${widths(int8)}\n},\n},`
  );
  return `{\n${paths.join("\n")}\n};`;
}
