/**
 * Random choices without state. Each is a function of its purpose, so that a resumed training makes the same choices.
 *
 * @module
 */

/** 32 random bits for these whole numbers: MurmurHash3 (Appleby) over them as 32-bit words. */
export function randomBits(...of: readonly number[]): number {
  let hash = 0;
  for (const word of of) {
    let k = Math.imul(word, 0xcc9e2d51);
    k = Math.imul(k << 15 | k >>> 17, 0x1b873593);
    hash ^= k;
    hash = Math.imul(hash << 13 | hash >>> 19, 5) + 0xe6546b64 | 0;
  }
  hash ^= 4 * of.length;
  hash = Math.imul(hash ^ hash >>> 16, 0x85ebca6b);
  hash = Math.imul(hash ^ hash >>> 13, 0xc2b2ae35);
  return (hash ^ hash >>> 16) >>> 0;
}

/** A number uniform in [0, 1) for these whole numbers. */
export function randomUniform(...of: readonly number[]): number {
  return randomBits(...of) / 2 ** 32;
}

/** From the number of a draw to the index drawn: each round of `size` draws has each index once, in its own order. */
export function shuffledRounds(size: number, ...of: readonly number[]): (draw: number) => number {
  let order: { readonly round: number; readonly indices: readonly number[] } | undefined;
  return (draw) => {
    const round = Math.floor(draw / size);
    if (order?.round !== round) {
      const keys = Array.from({ length: size }, (_, index) => randomBits(...of, round, index));
      // Equal keys keep their order, because sorting is stable.
      order = { round, indices: [...keys.keys()].sort((a, b) => keys[a]! - keys[b]!) };
    }
    return order.indices[draw % size]!;
  };
}
