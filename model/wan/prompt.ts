import { decodeHTML } from "entities";
import { fixText } from "../tokenizer/fix_text.ts";

/** White space as Python's `\s` knows it, which is not quite JavaScript's. */
// deno-lint-ignore no-control-regex
const WHITE_SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/g;

/**
 * Cleans a prompt before it is tokenized, as Wan's own program does, and diffusers where ftfy is installed: {@link
 * fixText}, then HTML entities (twice, for text that was escaped twice), runs of white space as one space, and none at
 * the ends.
 */
export function cleanPrompt(text: string): string {
  return decodeHTML(decodeHTML(fixText(text))).replace(WHITE_SPACE, " ").replace(/^ | $/g, "");
}
