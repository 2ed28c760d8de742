import { createHash } from "node:crypto";
import { TilereelError } from "../../gpu/common/errors.ts";
import { FLOAT_DTYPES, toFloat32 } from "./dtype.ts";
import type { TensorInfo, TensorSource } from "./tensor_source.ts";

/** The key of a file's checksum in its metadata. `writeSafetensors` gives it its value. */
export const CHECKSUM = "checksum";

/** A tensor in a checksum. */
type Summed = Pick<TensorInfo, "name" | "dtype" | "shape"> & { readonly bytes: Uint8Array };

/** The SHA-256 of tensors, which come in the order of their names, and of all other metadata. */
export async function checksumOf(
  metadata: Readonly<Record<string, string>>,
  tensors: Iterable<Summed> | AsyncIterable<Summed>,
): Promise<string> {
  const others = Object.entries(metadata).filter(([key]) => key !== CHECKSUM).sort(byName);
  const hash = createHash("sha256").update(JSON.stringify(others));
  for await (const { name, dtype, shape, bytes } of tensors) {
    hash.update(JSON.stringify([name, dtype, shape])).update(bytes);
  }
  return hash.digest("hex");
}

export function byName([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : 1;
}

/**
 * Checks that a file has a checksum, that it is right, and that all floats are finite. It reads the whole file.
 *
 * @param remedy what to do if not, as a clause
 * @throws {TilereelError} if not
 */
export async function checkWhole(source: TensorSource, remedy = "use a copy, or train again"): Promise<void> {
  const { path, metadata } = source;
  const damaged = (why: string) => new TilereelError(`${path} is damaged: ${why}; ${remedy}`);
  if (metadata[CHECKSUM] === undefined) throw damaged("it has no checksum");
  let notFinite: string | undefined;
  async function* tensors() {
    for (const name of source.names().sort()) {
      const { dtype, shape } = source.info(name), bytes = await source.read(name);
      if (FLOAT_DTYPES.includes(dtype) && !toFloat32(bytes, dtype).every(Number.isFinite)) notFinite ??= name;
      yield { name, dtype, shape, bytes };
    }
  }
  if (await checksumOf(metadata, tensors()) !== metadata[CHECKSUM]) throw damaged("its checksum does not match");
  if (notFinite !== undefined) throw damaged(`${notFinite} holds numbers that are not finite`);
}
