import { assertEquals } from "@std/assert";
import { isSafePattern } from "../../../model/tokenizer/safe_pattern.ts";

/** Of T5, CLIP, GPT-2, LLaMA 3, Qwen and GPT-4o. */
const REAL = [
  " {2,}",
  "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+",
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|" +
  "\\s+(?!\\S)|\\s+",
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+",
  "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
];
const HOSTILE = [
  ..."(a+)+$ (a|a)*b (a*)* ((a+))+ (a+){2,} (a?){50} ([a-z]+)*x (?:a{1,3})+ ((ab)+c)+ (?<n>a+)* .*.*.*.*b".split(" "),
];

Deno.test("regular expressions of models' tokenizers are taken, and those that could match for ever are not", () => {
  assertEquals(REAL.filter((source) => !isSafePattern(source)), []);
  assertEquals(HOSTILE.filter(isSafePattern), []);
  // Brackets and escapes are no groups.
  assertEquals(["[(a+)+]", "\\(a+\\)+", "(?:ab)+", "(a)*", "(a{3})+"].filter((source) => !isSafePattern(source)), []);
});
