import { fileAt } from "../files/disk.ts";
import type { StoredFile } from "../files/store.ts";
import { type Container, openContainer } from "./container.ts";
import { readSafetensorsHeader } from "./safetensors_header.ts";
import { TensorFile } from "./tensor_file.ts";
import type { TensorSource } from "./tensor_source.ts";

export { type Dtype, elementCount, toFloat32, toNumbers } from "./dtype.ts";
export { expectTensor, readFloat32, type TensorInfo, type TensorSource } from "./tensor_source.ts";

/**
 * Opens one safetensors file. Its header is read and checked completely; tensors are read when they are needed.
 *
 * @param wanted what is expected there, for the message where it is a file of another kind
 * @throws {TilereelError} if there is no such file, it is of another kind, truncated or corrupt.
 */
export async function openSafetensors(
  file: string | StoredFile,
  wanted = "a safetensors file",
): Promise<TensorSource> {
  return await openContainer(fileAt(file), wanted, [SAFETENSORS]);
}

/** Safetensors files. A damaged header makes the kind unknown. */
export const SAFETENSORS: Container = {
  kinds: ["safetensors", "unknown"],
  ending: "safetensors",
  hasIndex: true,
  open: async (file) => new TensorFile(file, await readSafetensorsHeader(file)),
};
