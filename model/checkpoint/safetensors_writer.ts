import { type Dtype, elementCount, storedBytes } from "./dtype.ts";

/** A tensor of a file that is to be written. */
export interface PlannedTensor {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

/** The bytes of a planned tensor. */
export const plannedBytes = ({ dtype, shape }: PlannedTensor): number => storedBytes(dtype, elementCount(shape));

/**
 * The order of tensors in a file: the widest elements come first, so that every tensor is aligned, as in the reference
 * implementation.
 */
export function inFileOrder<T extends PlannedTensor>(tensors: readonly T[]): T[] {
  return tensors.toSorted((a, b) =>
    storedBytes(b.dtype, 1) - storedBytes(a.dtype, 1) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0)
  );
}

/** The beginning of a safetensors file whose tensors follow in this order, one directly after the other. */
export function safetensorsHeader(
  tensors: readonly PlannedTensor[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const header: Record<string, unknown> = Object.create(null);
  if (Object.keys(metadata).length > 0) header.__metadata__ = metadata;
  let offset = 0;
  for (const tensor of tensors) {
    const { name, dtype, shape } = tensor;
    header[name] = { dtype, shape, data_offsets: [offset, offset += plannedBytes(tensor)] };
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const length = Math.ceil(json.length / 8) * 8, start = new Uint8Array(8 + length).fill(0x20);
  new DataView(start.buffer).setBigUint64(0, BigInt(length), true);
  start.set(json, 8);
  return start;
}
