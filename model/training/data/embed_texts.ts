/**
 * Embeds many texts and keeps the results in this machine's memory.
 *
 * @module
 */
import type { Gpu } from "../../../gpu/gpu.ts";
import { readTogether } from "../../../gpu/read_together.ts";
import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import type { Conditioning } from "../../family.ts";
import { tensorsOf } from "../../prompt_encoder.ts";

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
 * @param encode as `PromptEncoder.encode`
 */
export async function embedTexts(
  gpu: Gpu,
  texts: readonly string[],
  textTokens: number,
  encode: (texts: readonly string[]) => Promise<Conditioning[]>,
): Promise<EmbeddedTexts> {
  const different = [...new Set(texts)], atOnce = Math.max(1, Math.floor(TOKENS_AT_ONCE / textTokens));
  const found = new Map<string, Float32Array>();
  let shape: readonly number[] = [];
  for (let at = 0; at < different.length; at += atOnce) {
    const some = different.slice(at, at + atOnce);
    const encoded = await encode(some);
    using owned = new TensorOwner(gpu);
    owned.adopt(encoded.flatMap(tensorsOf));
    const numbers = await readTogether(gpu, encoded.map(({ text }) => text));
    shape = encoded[0]!.text.shape;
    for (const [i, text] of some.entries()) found.set(text, numbers[i]!);
  }
  return { shape, of: (text) => found.get(text)! };
}
