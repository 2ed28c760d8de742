/**
 * What Wan does to a prompt before it is tokenized.
 *
 * @module
 */
import { decodeHTML } from "entities";

/** White space as Python's `\s` knows it, which is not quite JavaScript's. */
// deno-lint-ignore no-control-regex
const WHITE_SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/g;

/**
 * Cleans a prompt as Wan's pipeline does: HTML entities are decoded (twice, for text that was escaped twice), runs of
 * white space become one space, and those at the ends go.
 *
 * Where Python's ftfy is installed, diffusers also has it repair mis-decoded text ("âœ”" for "✔", curly quotes to
 * straight). There is no such library for JavaScript: such text goes to the tokenizer as it is.
 */
export function cleanPrompt(text: string): string {
  return decodeHTML(decodeHTML(text)).replace(WHITE_SPACE, " ").replace(/^ | $/g, "");
}
