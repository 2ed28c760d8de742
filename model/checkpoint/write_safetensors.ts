import { writeAtomically } from "../files/output.ts";
import { byName, CHECKSUM, checksumOf } from "./checksum.ts";
import type { Dtype } from "./dtype.ts";
import { inFileOrder, plannedBytes, safetensorsHeader } from "./safetensors_writer.ts";

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
  const entries = inFileOrder(Object.entries(tensors).map(([name, tensor]) => ({ name, ...tensor })));
  if (Object.hasOwn(metadata, CHECKSUM)) {
    const summed = entries.map(({ name, dtype, shape, data }) =>
      [name, { name, dtype, shape, bytes: bytesOf(data) }] as const
    );
    metadata = {
      ...metadata,
      [CHECKSUM]: await checksumOf(metadata, summed.toSorted(byName).map(([, tensor]) => tensor)),
    };
  }
  for (const { name, dtype, shape, data } of entries) {
    const bytes = plannedBytes({ name, dtype, shape });
    if (data.byteLength !== bytes) {
      throw new RangeError(`"${name}": ${dtype} [${shape.join(", ")}] takes ${bytes} bytes, got ${data.byteLength}`);
    }
  }
  const pieces = [safetensorsHeader(entries, metadata), ...entries.map(({ data }) => bytesOf(data))];
  await writeAtomically(path, (temporary) => Deno.writeFile(temporary, ReadableStream.from(pieces)));
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
