import { quoted, quotedValue, TilereelError } from "../../gpu/common/errors.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import { anyOf, elementCount, isSafetensorsDtype, MATRIX_DTYPES, storedBytes } from "./dtype.ts";
import { type ByteSource, readPart } from "../files/store.ts";
import { isJsonObject } from "./json.ts";
import { parseJson } from "./parse_json.ts";
import type { StoredTensor, TensorHeader } from "./tensor_file.ts";

/**
 * Larger headers are treated as damage. Those of the largest models have some 200 KiB, those of LoRAs with what their
 * trainer wrote down a few MiB. (The reference implementation has a limit of 100 MB.)
 */
const LARGEST_HEADER = 2 ** 24;
/** Real tensors have at most five axes. */
const MOST_AXES = 8;

/**
 * Reads and checks a header: eight bytes with its length, then JSON with the position of each tensor. Every dtype must
 * be known, every range must have the length that shape and dtype require, and the ranges must cover the rest of the
 * file without gap or overlap.
 *
 * @throws {TilereelError} naming the file and what is wrong with it.
 */
export async function readSafetensorsHeader(file: ByteSource): Promise<TensorHeader> {
  const { path } = file;
  if (file.size < 8) throw truncated(path, 8, file.size);
  const headerLength = new DataView((await readPart(file, 0, 8)).buffer).getBigUint64(0, true);
  if (headerLength > LARGEST_HEADER) {
    throw corrupt(
      path,
      `its header would be ${formatBytes(Number(headerLength))} long, which no safetensors file's is`,
    );
  }
  const dataStart = 8 + Number(headerLength);
  if (dataStart > file.size) throw truncated(path, dataStart, file.size);

  const header = parseHeader(path, await readPart(file, 8, Number(headerLength)));
  const metadata = parseMetadata(path, header.__metadata__);

  const tensors = Object.entries(header)
    .filter(([name]) => name !== "__metadata__")
    .map(([name, entry]) => parseTensor(path, name, entry, dataStart))
    .sort((a, b) => a.offset - b.offset || a.bytes - b.bytes);

  let end = dataStart;
  for (const { name, offset, bytes } of tensors) {
    if (offset < end) throw corrupt(path, `tensor ${quoted(name)} overlaps the one before it`);
    if (offset > end) throw corrupt(path, `there is a gap before tensor ${quoted(name)}`);
    end = offset + bytes;
  }
  if (file.size < end) throw truncated(path, end, file.size);
  if (file.size > end) throw corrupt(path, `it has ${formatBytes(file.size - end)} more than its header describes`);
  return { metadata, tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])) };
}

function parseHeader(path: string, bytes: Uint8Array): Record<string, unknown> {
  let header: unknown;
  try {
    header = parseJson(new TextDecoder("utf-8", { fatal: true }).decode(bytes), { unique: true });
  } catch (error) {
    throw corrupt(path, `its header is not JSON in UTF-8: ${quoted((error as Error).message)}`);
  }
  if (!isJsonObject(header)) throw corrupt(path, "its header is not a JSON object");
  return header;
}

function parseMetadata(path: string, metadata: unknown): Record<string, string> {
  if (metadata === undefined) return {};
  if (!isJsonObject(metadata) || Object.values(metadata).some((value) => typeof value !== "string")) {
    throw corrupt(path, "its __metadata__ is not a JSON object of strings");
  }
  return metadata as Record<string, string>;
}

function parseTensor(path: string, name: string, entry: unknown, dataStart: number): StoredTensor {
  if (!isJsonObject(entry)) throw corrupt(path, `its entry of tensor ${quoted(name)} is not a JSON object`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (dtype === undefined) throw corrupt(path, `tensor ${quoted(name)} has no dtype`);
  if (!isSafetensorsDtype(dtype)) {
    throw new TilereelError(
      `${path}: tensor ${quoted(name)} has the dtype ${quotedValue(dtype)}, which tilereel does not know; ` +
        `${anyOf(MATRIX_DTYPES)} was expected`,
    );
  }
  if (!isSizes(shape) || shape.length > MOST_AXES) {
    throw corrupt(path, `the shape of tensor ${quoted(name)} is not a list of up to ${MOST_AXES} whole numbers`);
  }
  if (!isSizes(offsets) || offsets.length !== 2) {
    throw corrupt(path, `the data_offsets of tensor ${quoted(name)} are not two whole numbers`);
  }
  const [begin, end] = offsets as [number, number];
  const bytes = storedBytes(dtype, elementCount(shape));
  if (end - begin !== bytes) {
    throw corrupt(
      path,
      `tensor ${quoted(name)} has ${formatBytes(Math.abs(end - begin - bytes))} too ${
        end - begin < bytes ? "few" : "many"
      } ` +
        `for ${dtype} [${shape.join(", ")}], which takes ${formatBytes(bytes)}`,
    );
  }
  return { name, dtype, shape, bytes, file: path, offset: dataStart + begin };
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

function truncated(path: string, expected: number, actual: number): TilereelError {
  return new TilereelError(
    `${path} is truncated: it has ${formatBytes(actual)}, and needs at least ${formatBytes(expected - actual)} more; ` +
      `copy or download it again`,
  );
}

function corrupt(path: string, what: string): TilereelError {
  return new TilereelError(`${path} is damaged or not a safetensors file: ${what}; copy or download it again`);
}
