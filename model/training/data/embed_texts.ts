/**
 * Embeds many texts and keeps the results in this machine's memory.
 *
 * @module
 */
import type { Gpu } from "../../../gpu/gpu.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import { readAndRelease } from "./read_and_release.ts";

/**
 * The number of tokens that are embedded at once. Large text encoders read all their weights for every call, so more is
 * better. But the widest activations of Wan's encoder, 40 KiB per token, must fit a binding of 128 MiB.
 */
const TOKENS_AT_ONCE = 2048;

/** The embeddings of texts. */
export interface EmbeddedTexts {
  /** For each text: [1, tokens, dim]. */
  readonly shape: readonly number[];
  /** The embeddings of one text. */
  of(text: string): Float32Array;
}

/**
 * Embeds texts. Each is embedded once, however often it is given.
 *
 * @param textTokens the number of tokens that each text is padded or cut to
 * @param encode returns [texts, tokens, dim]
 */
export async function embedTexts(
  gpu: Gpu,
  texts: readonly string[],
  textTokens: number,
  encode: (texts: readonly string[]) => Promise<Tensor>,
): Promise<EmbeddedTexts> {
  const different = [...new Set(texts)], atOnce = Math.max(1, Math.floor(TOKENS_AT_ONCE / textTokens));
  const found = new Map<string, Float32Array>();
  let shape: readonly number[] = [];
  for (let at = 0; at < different.length; at += atOnce) {
    const some = different.slice(at, at + atOnce);
    const tensor = await encode(some);
    shape = [1, ...tensor.shape.slice(1)];
    const all = await readAndRelease(gpu, tensor), length = all.length / some.length;
    for (const [i, text] of some.entries()) found.set(text, all.slice(i * length, (i + 1) * length));
  }
  return { shape, of: (text) => found.get(text)! };
}
