import { GGMLQuantizationType, gguf, type GGUFParseOutput, type MetadataValue } from "@huggingface/gguf";
import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import { type ByteSource, readPart, type StoredFile } from "../files/store.ts";
import type { Container } from "./container.ts";
import { elementCount, GGUF_DTYPES, storedBytes } from "./dtype.ts";
import { type StoredTensor, TensorFile, type TensorHeader } from "./tensor_file.ts";

/** The shape of a tensor of more axes than ggml has, which ComfyUI-GGUF writes under this prefix and its name. */
const ORIGINAL_SHAPE = "comfy.gguf.orig_shape.";
/** Real files have some 2,000 tensors and 50 values; these limits keep damaged ones from taking minutes. */
const MOST_TENSORS = 100_000, MOST_VALUES = 10_000;

/**
 * GGUF files, as ComfyUI-GGUF and stable-diffusion.cpp write them for diffusion models. Their tensors stay quantised on
 * the GPU. Of the metadata, lists are left out, and numbers become texts.
 */
export const GGUF: Container = {
  kinds: ["gguf"],
  ending: "gguf",
  open: async (file) => new TensorFile(file, await readHeader(file)),
};

async function readHeader(file: ByteSource): Promise<TensorHeader> {
  const { path } = file, { metadata, tensorInfos, tensorDataOffset, littleEndian } = await parse(file);
  if (!littleEndian) throw damaged(path, "it is big-endian");
  const tensors: StoredTensor[] = [];
  for (const { name, shape: axes, dtype: code, offset } of tensorInfos) {
    const dtype = GGUF_DTYPES.find((dtype) => dtype === GGMLQuantizationType[code]);
    if (!dtype) {
      throw new TilereelError(
        `${path}: tensor ${quoted(name)} is stored as ${GGMLQuantizationType[code] ?? `type ${code}`}, which is not ` +
          `supported; use another version of the model, such as Q8_0, Q5_K_M or Q4_K_M`,
      );
    }
    // ggml's first axis is that of neighbours.
    const shape = originalShape(metadata[ORIGINAL_SHAPE + name]) ?? axes.map(Number).reverse();
    const elements = elementCount(shape), bytes = storedBytes(dtype, elements), at = Number(tensorDataOffset + offset);
    if (!Number.isSafeInteger(elements) || elements !== elementCount(axes.map(Number))) {
      throw damaged(path, `tensor ${quoted(name)} has the impossible shape [${shape.join(", ")}]`);
    }
    if (storedBytes(dtype, shape.at(-1) ?? 1) * elements / (shape.at(-1) ?? 1) !== bytes) {
      throw damaged(path, `the rows of tensor ${quoted(name)} [${shape.join(", ")}] are no whole blocks of ${dtype}`);
    }
    if (!(at + bytes <= file.size)) {
      throw new TilereelError(
        `${path} is truncated: it has ${formatBytes(file.size)}, and needs at least ` +
          `${formatBytes(at + bytes - file.size)} more; copy or download it again`,
      );
    }
    tensors.push({ name, dtype, shape, bytes, file: path, offset: at });
  }
  tensors.sort((a, b) => a.offset - b.offset);
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  if (byName.size < tensors.length) throw damaged(path, "two of its tensors have the same name");
  for (const [i, { name, offset }] of tensors.entries()) {
    const before = tensors[i - 1];
    if (before && before.offset + before.bytes > offset) {
      throw damaged(path, `tensor ${quoted(name)} overlaps the one before it`);
    }
  }
  const single = Object.entries(metadata).filter(([, value]) => typeof value !== "object" && value !== undefined);
  return { metadata: Object.fromEntries(single.map(([key, value]) => [key, String(value)])), tensors: byName };
}

/**
 * All metadata of a GGUF file, lists included.
 *
 * @throws {TilereelError} if it is no such file, or it is damaged
 */
export async function readGgufMetadata(file: StoredFile): Promise<Readonly<Record<string, unknown>>> {
  using source = await file.open("a GGUF file");
  return (await parse(source)).metadata;
}

async function parse(file: ByteSource): Promise<GGUFParseOutput<{ strict: false }>> {
  const { path } = file, start = await readPart(file, 0, Math.min(24, file.size));
  const view = new DataView(start.buffer, start.byteOffset, start.length);
  const version = start.length < 8 ? 0 : view.getUint32(4, true);
  if (start.length < 24 || version < 2 || version > 3) throw damaged(path, `its version is ${version}, not 2 or 3`);
  const tensors = view.getBigUint64(8, true), values = view.getBigUint64(16, true);
  if (tensors > MOST_TENSORS || values > MOST_VALUES) {
    throw damaged(path, `it would have ${tensors} tensors and ${values} values, which no model's file has`);
  }
  // The library reads ranges over HTTP. An answer past the file's end would be zeros to it.
  const fetch = async (_: unknown, init?: RequestInit) => {
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(new Headers(init?.headers).get("range")!)!;
    const length = Math.min(Number(to) + 1, file.size) - Number(from);
    if (length <= 0) throw damaged(path, "its header ends too early");
    return new Response(await readPart(file, Number(from), length));
  };
  try {
    return await gguf("https://file/", { fetch: fetch as typeof globalThis.fetch });
  } catch (error) {
    throw error instanceof TilereelError ? error : damaged(path, error instanceof Error ? error.message : "unreadable");
  }
}

function originalShape(value: MetadataValue | undefined): number[] | undefined {
  return Array.isArray(value) ? value.map(Number) : undefined;
}

function damaged(path: string, what: string): TilereelError {
  return new TilereelError(`${path} is damaged or not a GGUF file of weights: ${what}; copy or download it again`);
}
