import type { Dice } from "./dice.ts";

/** Numbers at the edges of what fits a length or a count. */
const EDGES = [0, 1, 2, 3, 4, 7, 8, 16, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2 ** 24, 2 ** 31 - 1, 2 ** 31];
/** Files of more bytes are not made longer. */
const LONGEST = 2 ** 20;

/** The number of kinds of changes, and of those that come first and move nothing. */
const KINDS = 9, KINDS_IN_PLACE = 4;

/** The bytes with one to eight changes. In half of the cases, all else stays where it is. */
export function mutateBytes(bytes: Uint8Array, dice: Dice): Uint8Array<ArrayBuffer> {
  let out = bytes.slice();
  const kinds = dice.once(2) ? KINDS_IN_PLACE : KINDS;
  for (let left = 1 + dice.below(dice.once(2) ? 2 : 8); left > 0; left--) out = changed(out, kinds, dice);
  return out;
}

function changed(bytes: Uint8Array<ArrayBuffer>, kinds: number, dice: Dice): Uint8Array<ArrayBuffer> {
  const size = bytes.length, at = placeIn(size, dice), length = 1 + dice.below(dice.once(3) ? 64 : 8);
  if (size === 0) return Uint8Array.of(dice.below(256));
  switch (dice.below(kinds)) {
    case 0:
      bytes[at]! ^= 1 << dice.below(8);
      return bytes;
    case 1:
      bytes[at] = dice.of([0, 1, 0x7f, 0x80, 0xff, dice.below(256)]);
      return bytes;
    case 2:
    case 3:
      return number(bytes, at, dice);
    case 4:
      return joined(bytes.subarray(0, at), bytes.subarray(at + length));
    case 5:
      if (size > LONGEST) return bytes;
      return joined(bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at));
    case 6:
      if (size > LONGEST) return bytes;
      return joined(bytes.subarray(0, at), new Uint8Array(length).fill(dice.below(256)), bytes.subarray(at));
    case 7:
      return bytes.slice(0, at);
    default:
      bytes.copyWithin(at, placeIn(size, dice), placeIn(size, dice));
      return bytes;
  }
}

/** Somewhere, and half of the time near the beginning, where headers are. */
function placeIn(size: number, dice: Dice): number {
  return size === 0 ? 0 : dice.below(dice.once(2) ? size : Math.min(size, 256));
}

function number(bytes: Uint8Array<ArrayBuffer>, at: number, dice: Dice): Uint8Array<ArrayBuffer> {
  const view = new DataView(bytes.buffer), width = dice.of([2, 4, 8]), value = dice.of(EDGES), isLittle = dice.once(2);
  if (at + width > bytes.length) return bytes;
  if (width === 2) view.setUint16(at, value, isLittle);
  else if (width === 4) view.setUint32(at, dice.once(4) ? 2 ** 32 - 1 - value : value, isLittle);
  else view.setBigUint64(at, dice.once(4) ? 2n ** 64n - 1n - BigInt(value) : BigInt(value), isLittle);
  return bytes;
}

/** All parts as one. */
export function joined(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
