import type { Gpu } from "../../../gpu/gpu.ts";
import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import { type HostConditioning, readConditionings } from "../../conditioning.ts";
import type { Conditioning } from "../../family.ts";
import { tensorsOf } from "../../prompt_encoder.ts";

/**
 * The number of tokens that are embedded at once. Large text encoders read all their weights for every call, so more is
 * better. But the widest activations of Wan's encoder, 40 KiB per token, must fit a binding of 128 MiB.
 */
const TOKENS_AT_ONCE = 2048;

/**
 * Embeds texts to this machine's memory. Each is embedded once, however often it is given.
 *
 * @param textTokens the number of tokens that each text is padded or cut to
 * @param encode as `PromptEncoder.encode`
 * @returns the conditioning of each text
 */
export async function embedTexts(
  gpu: Gpu,
  texts: readonly string[],
  textTokens: number,
  encode: (texts: readonly string[]) => Promise<Conditioning[]>,
): Promise<(text: string) => HostConditioning> {
  const different = [...new Set(texts)], atOnce = Math.max(1, Math.floor(TOKENS_AT_ONCE / textTokens));
  const found = new Map<string, HostConditioning>();
  for (let at = 0; at < different.length; at += atOnce) {
    const some = different.slice(at, at + atOnce);
    const encoded = await encode(some);
    using owned = new TensorOwner(gpu);
    owned.adopt(encoded.flatMap(tensorsOf));
    const read = await readConditionings(gpu, encoded);
    for (const [i, text] of some.entries()) found.set(text, read[i]!);
  }
  return (text) => found.get(text)!;
}
