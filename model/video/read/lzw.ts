/** Codes have at most 12 bits. */
const MOST_CODES = 4096;

/**
 * Decodes the LZW codes of a GIF's image.
 *
 * @param codeSize bits of a colour
 * @param count the number of pixels; what follows them is ignored
 * @returns the index of the colour of each pixel
 * @throws {RangeError} if the codes make no sense, or end too early
 */
export function decodeLzw(bytes: Uint8Array, codeSize: number, count: number): Uint8Array {
  if (codeSize < 1 || codeSize > 8) throw new RangeError("an image has codes of an impossible size");
  const clear = 1 << codeSize, end = clear + 1;
  // A code stands for the text of another, and one colour behind it.
  const before = new Uint16Array(MOST_CODES), last = new Uint8Array(MOST_CODES), first = new Uint8Array(MOST_CODES);
  const lengths = new Uint16Array(MOST_CODES);
  for (let colour = 0; colour < clear; colour++) {
    last[colour] = first[colour] = colour;
    lengths[colour] = 1;
  }
  const out = new Uint8Array(count);
  let next = end + 1, width = codeSize + 1, previous = -1;
  let bits = 0, held = 0, at = 0;
  for (let done = 0; done < count;) {
    while (held < width) {
      if (at === bytes.length) throw new RangeError("an image is cut short");
      bits |= bytes[at++]! << held;
      held += 8;
    }
    const code = bits & (1 << width) - 1;
    bits >>= width;
    held -= width;
    if (code === clear) {
      [next, width, previous] = [end + 1, codeSize + 1, -1];
      continue;
    }
    if (code === end) throw new RangeError("an image ends too early");
    if (code > next || code === next && previous < 0 || previous < 0 && code > end) {
      throw new RangeError("an image has a code that stands for nothing");
    }
    if (previous >= 0 && next < MOST_CODES) {
      // The code that is made now may be the one that is read.
      before[next] = previous;
      first[next] = first[previous]!;
      last[next] = first[code === next ? previous : code]!;
      lengths[next] = lengths[previous]! + 1;
      next++;
      if (next === 1 << width && width < 12) width++;
    } else if (code >= next) throw new RangeError("an image has a code that stands for nothing");
    const stop = done + lengths[code]!;
    for (let to = stop - 1, from = code; to >= done; to--, from = before[from]!) if (to < count) out[to] = last[from]!;
    done = stop;
    previous = code;
  }
  return out;
}
