import type { MatrixFormat } from "../../gpu/formats/format.ts";
import { FORMATS } from "../../gpu/formats/formats.ts";
import { i8 } from "../../gpu/formats/i8.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { canCastTo } from "../../gpu/ops/cast.ts";
import { type Dtype, elementCount, isSafetensorsDtype, toFloat32, WEIGHT_FORMATS } from "../checkpoint/dtype.ts";
import { inFileOrder, plannedBytes, type PlannedTensor } from "../checkpoint/safetensors_writer.ts";
import { TURNED_SUFFIX } from "../checkpoint/scales.ts";
import { readFloat32, type TensorInfo, type TensorSource } from "../checkpoint/tensor_source.ts";
import type { PartWeights } from "../family.ts";
import type { WeightDeltas } from "../weights/weight_options.ts";
import { Weights } from "../weights/weights.ts";

/**
 * What matrices become. "diffusers": as they are stored, but formats that only GGUF files have become f16; "f16" and
 * "bf16": all; "int8": the layers of the transformer's blocks, and F32 in others becomes f16, which changes no product.
 */
export const CONVERT_FORMATS = ["diffusers", "int8", "f16", "bf16"] as const;
/** One of {@link CONVERT_FORMATS}. */
export type ConvertFormat = (typeof CONVERT_FORMATS)[number];

/** The bytes that are read and written at once where the GPU does nothing. */
const PIECE_BYTES = 32 * 2 ** 20;

/** Writes bytes of a planned tensor, from `at` on. */
export type Put = (tensor: PlannedTensor, at: number, bytes: Uint8Array<ArrayBuffer>) => Promise<void>;

/** Tensors of a file that are made together: a matrix and its scale. */
interface Job {
  readonly tensors: readonly PlannedTensor[];
  run(put: Put): Promise<void>;
}

/** The file of a part's weights that is to be written. */
export interface PlannedPart {
  /** In their order in the file. */
  readonly tensors: readonly PlannedTensor[];
  /** What makes them, in the order in which they are read. */
  readonly jobs: readonly Job[];
}

/** How the weights of a part are converted. */
export interface ConvertPartOptions {
  readonly format: ConvertFormat;
  /** What is added to them. */
  readonly deltas?: WeightDeltas | undefined;
}

/** What a tensor is cast to while it is loaded. */
type Cast = "stored" | "f16" | "bf16" | "int8";

/**
 * Plans the file of a part's weights. No tensors are read.
 *
 * @param source under the family's names
 */
export function planPart(
  gpu: Gpu,
  source: TensorSource,
  part: PartWeights,
  { format, deltas }: ConvertPartOptions,
): PlannedPart {
  const jobs = source.names().map((name): Job => {
    const info = source.info(name), inFile = isSafetensorsDtype(info.dtype) || info.dtype === "I8_ROWS";
    const isAdded = deltas?.of(name, info.shape) !== undefined, adjust = isAdded ? deltas : undefined;
    if (isMatrix(info, part)) {
      const cast = castOf(info, part, format) ?? (inFile ? undefined : "f16");
      if (cast || isAdded) return onGpu(gpu, source, info, { cast: cast ?? "stored", adjust });
    } else if (isAdded) return vectorOnGpu(gpu, source, info, adjust);
    return inFile ? asStored(source, info, part) : decoded(source, info, part);
  });
  const all = fused(jobs, part);
  return { jobs: all, tensors: inFileOrder(all.flatMap(({ tensors }) => tensors)) };
}

/** The same with one job for tensors that diffusers has as one, if they are alike. */
function fused(jobs: readonly Job[], { fused: wholes = [], names = (name) => name }: PartWeights): readonly Job[] {
  return wholes.reduce((jobs: readonly Job[], name) => {
    const named = names(name), parts = typeof named === "string" ? [] : named.map((part) => part.name);
    const found = parts.map((part) => jobs.find(({ tensors }) => tensors.length === 1 && tensors[0]!.name === part));
    const own = found.filter((job) => job !== undefined), [first] = own;
    const isAlike = own.length === parts.length &&
      own.every(({ tensors }) => tensors[0]!.dtype === first!.tensors[0]!.dtype);
    if (!first || !isAlike) return jobs;
    const { dtype, shape: [, ...inner] } = first.tensors[0]!, tensors = own.map((job) => job.tensors[0]!);
    const whole: PlannedTensor = {
      name,
      dtype,
      shape: [tensors.reduce((sum, { shape }) => sum + shape[0]!, 0), ...inner],
    };
    const run = async (put: Put) => {
      let start = 0;
      for (const [i, job] of own.entries()) {
        await job.run((_, at, bytes) => put(whole, start + at, bytes));
        start += plannedBytes(tensors[i]!);
      }
    };
    return [...jobs.filter((job) => !own.includes(job)), { tensors: [whole], run }];
  }, jobs);
}

/** Whether it is loaded as a matrix is, and not as vectors, tables or weights of convolutions. */
function isMatrix({ name, shape, dtype }: TensorInfo, part: PartWeights): boolean {
  const { used = () => true, vector = () => false, widened = false } = part;
  return !widened && name.endsWith(".weight") && shape.length > 1 && dtype in WEIGHT_FORMATS && used(name) &&
    !vector(name);
}

/** What a matrix is cast to; undefined where it stays as it is stored. */
function castOf(
  { name, dtype }: TensorInfo,
  { exact = () => false, quantised = () => false }: PartWeights,
  format: ConvertFormat,
): Cast | undefined {
  if (format === "int8" && quantised(name)) return dtype === "I8_ROWS" ? undefined : "int8";
  if (format === "int8") return dtype === "F32" && !exact(name) ? "f16" : undefined;
  if (format === "diffusers") return undefined;
  return WEIGHT_FORMATS[dtype]!.name === format ? undefined : format;
}

/** The tensor as it is, and its scale under the name that most files have. */
function asStored(source: TensorSource, info: TensorInfo, { flat = () => false }: PartWeights): Job {
  const { name, dtype, bytes, scale } = info, isTurned = dtype === "I8_ROWS";
  const shape = flat(name) ? [info.shape[0]!, elementCount(info.shape.slice(1))] : info.shape;
  const tensor: PlannedTensor = { name, shape, dtype: isTurned ? "I8" : dtype };
  const count = scale === undefined ? 0 : elementCount(source.info(scale).shape);
  const beside = count > 0 ? scaleOf(name, count, isTurned) : undefined;
  return {
    tensors: beside ? [tensor, beside] : [tensor],
    async run(put) {
      for (let at = 0; at < bytes; at += PIECE_BYTES) {
        await put(tensor, at, await source.readRange(name, at, Math.min(PIECE_BYTES, bytes - at)));
      }
      if (beside) await put(beside, 0, bytesOf(await readFloat32(source, scale!)));
    },
  };
}

/** A table or a vector in a format that safetensors files do not have, decoded: tables, which are large, to f16. */
function decoded(source: TensorSource, { name, dtype, shape, bytes }: TensorInfo, part: PartWeights): Job {
  const isTable = part.used?.(name) === false;
  const tensor: PlannedTensor = { name, shape, dtype: isTable ? "F16" : "F32" };
  const rows = shape[0] ?? 1, rowBytes = bytes / rows, step = Math.max(1, Math.floor(PIECE_BYTES / rowBytes));
  return {
    tensors: [tensor],
    async run(put) {
      for (let row = 0; row < rows; row += step) {
        const count = Math.min(step, rows - row);
        const numbers = toFloat32(await source.readRange(name, row * rowBytes, count * rowBytes), dtype);
        const piece = bytesOf(isTable ? Float16Array.from(numbers) : numbers);
        await put(tensor, row * piece.length / count, piece);
      }
    },
  };
}

/** A matrix as the GPU holds it after loading. */
function onGpu(
  gpu: Gpu,
  source: TensorSource,
  info: TensorInfo,
  { cast, adjust }: { readonly cast: Cast; readonly adjust: WeightDeltas | undefined },
): Job {
  const { name, shape, scale: ownScale } = info, held = heldAs(info, cast, adjust !== undefined);
  const tensor: PlannedTensor = { name, shape, dtype: DTYPES[held.name]! };
  const keepsScale = ownScale !== undefined && !canCastTo(held);
  const beside = held === i8 || keepsScale ? scaleOf(name, shape[0]!, held === i8) : undefined;
  return {
    tensors: beside ? [tensor, beside] : [tensor],
    async run(put) {
      using weights = new Weights(gpu, source, { dtype: cast, adjust, quantised: () => true });
      const { weight, scale } = await weights.matrix(name, shape);
      if (weight.format !== held || (scale !== undefined) !== (beside !== undefined)) {
        throw new Error(`${name} is held as ${weight.format}, and not as ${held}`);
      }
      await put(tensor, 0, new Uint8Array(await gpu.readBytes(weight), 0, plannedBytes(tensor)));
      if (beside) await put(beside, 0, new Uint8Array(await gpu.readBytes(scale!)));
    },
  };
}

/** A vector with what is added to it. */
function vectorOnGpu(gpu: Gpu, source: TensorSource, info: TensorInfo, adjust: WeightDeltas | undefined): Job {
  const { name, shape } = info, tensor: PlannedTensor = { name, shape, dtype: "F32" };
  return {
    tensors: [tensor],
    async run(put) {
      using weights = new Weights(gpu, source, { adjust });
      await put(tensor, 0, new Uint8Array(await gpu.readBytes(await weights.vector(name, shape))));
    },
  };
}

/** The dtypes of files by the GPU's formats. */
const DTYPES: Readonly<Record<string, Dtype>> = {
  ...{ f32: "F32", f16: "F16", bf16: "BF16", i8: "I8", f8_e4m3: "F8_E4M3", f8_e5m2: "F8_E5M2" },
};

/** The format in which `Weights` holds it. */
function heldAs({ dtype }: TensorInfo, cast: Cast, adjusted: boolean): MatrixFormat {
  if (cast === "int8") return i8;
  const held = cast === "stored" ? WEIGHT_FORMATS[dtype]! : FORMATS[cast];
  return !adjusted || canCastTo(held) || held === i8 ? held : FORMATS.f16;
}

function scaleOf(name: string, count: number, isTurned: boolean): PlannedTensor {
  const layer = name.replace(/\.weight$/, "");
  const shape = count === 1 && !isTurned ? [] : [count, 1];
  return { name: layer + (isTurned ? TURNED_SUFFIX : ".weight_scale"), dtype: "F32", shape };
}

function bytesOf(numbers: Float32Array<ArrayBuffer> | Float16Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
}
