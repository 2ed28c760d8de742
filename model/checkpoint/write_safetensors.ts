import { writeAtomically } from "../files/output.ts";
import { byName, CHECKSUM, checksumOf } from "./checksum.ts";
import { type Dtype, elementCount, storedBytes } from "./dtype.ts";

/** A tensor to be stored; `data` holds its elements in row-major order, encoded as `dtype` says. */
export interface TensorToWrite {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly data: ArrayBufferView;
}

/**
 * Writes `tensors` and `metadata` to `path`. The file appears only when it is complete. Equal input gives equal bytes.
 * If the metadata have the key `checksum`, its value is the checksum of all else (see `checkWhole`), whatever is given.
 *
 * @throws {TilereelError} if the file cannot be written.
 * @throws {RangeError} if a tensor's data is not as long as its shape and dtype say.
 */
export async function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, TensorToWrite>>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  // The widest elements come first, so that every tensor is aligned, as in the reference implementation.
  const entries = Object.entries(tensors).sort(([nameA, a], [nameB, b]) =>
    storedBytes(b.dtype, 1) - storedBytes(a.dtype, 1) || (nameA < nameB ? -1 : 1)
  );
  const header: Record<string, unknown> = Object.create(null);
  if (Object.hasOwn(metadata, CHECKSUM)) {
    const summed = entries.toSorted(byName).map(([name, { dtype, shape, data }]) => ({
      ...{ name, dtype, shape, bytes: bytesOf(data) },
    }));
    metadata = { ...metadata, [CHECKSUM]: await checksumOf(metadata, summed) };
  }
  if (Object.keys(metadata).length > 0) header.__metadata__ = metadata;
  let offset = 0;
  for (const [name, { dtype, shape, data }] of entries) {
    const bytes = storedBytes(dtype, elementCount(shape));
    if (data.byteLength !== bytes) {
      throw new RangeError(`"${name}": ${dtype} [${shape.join(", ")}] takes ${bytes} bytes, got ${data.byteLength}`);
    }
    header[name] = { dtype, shape, data_offsets: [offset, offset += bytes] };
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const headerLength = Math.ceil(json.length / 8) * 8;
  const start = new Uint8Array(8 + headerLength).fill(0x20);
  new DataView(start.buffer).setBigUint64(0, BigInt(headerLength), true);
  start.set(json, 8);

  const pieces = [start, ...entries.map(([, { data }]) => bytesOf(data))];
  await writeAtomically(path, (temporary) => Deno.writeFile(temporary, ReadableStream.from(pieces)));
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
