import type { Dice } from "./dice.ts";
import { joined, mutateBytes } from "./mutate_bytes.ts";
import { mutateJson } from "./mutate_json.ts";

/** A safetensors file with a header as text, and data behind it. */
export function safetensorsBytes(header: string, data: Uint8Array): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(header), length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(json.length), true);
  return joined(length, json, data);
}

/** The parsed header of a valid file, and what is behind it. */
export function headerOf(bytes: Uint8Array): { header: Record<string, unknown>; data: Uint8Array } {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  return {
    header: JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))),
    data: bytes.subarray(8 + length),
  };
}

/** A valid file with changes in its bytes, in its header, or in the JSON that its metadata hold as text. */
export function mutateSafetensors(bytes: Uint8Array, dice: Dice): Uint8Array<ArrayBuffer> {
  if (dice.once(4)) return mutateBytes(bytes, dice);
  const { header, data } = headerOf(bytes), metadata = header.__metadata__ as Record<string, string> | undefined;
  const nested = Object.entries(metadata ?? {}).filter(([, text]) => /^[[{]/.test(text));
  if (dice.once(3)) {
    // The numbers, too: not finite, huge, or of another sign.
    const view = new DataView(data.slice().buffer), at = 4 * dice.below(Math.max(1, view.byteLength >> 2));
    if (at + 4 <= view.byteLength) view.setFloat32(at, dice.of([NaN, Infinity, -Infinity, 3e38, -1, 0, 1e-40]), true);
    return safetensorsBytes(JSON.stringify(header), new Uint8Array(view.buffer));
  }
  if (nested.length > 0 && dice.once(2)) {
    const [key, text] = dice.of(nested);
    const changed = { ...header, __metadata__: { ...metadata, [key]: mutateJson(JSON.parse(text), dice) } };
    return safetensorsBytes(JSON.stringify(changed), data);
  }
  return safetensorsBytes(mutateJson(header, dice), data);
}
