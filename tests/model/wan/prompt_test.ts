import { fixText } from "../../../model/tokenizer/fix_text.ts";
import { cleanPrompt } from "../../../model/wan/prompt.ts";
import { assertEquals } from "@std/assert";

// From ftfy's documentation, and what ftfy 6.3.1 gives for the others.
const FIXED: readonly [string, string][] = [
  ["Broken text&hellip; it&#x2019;s \ufb02ubberi\ufb01c!", "Broken text… it's flubberific!"],
  ["ＬＯＵＤ\u3000ＮＯＩＳＥＳ", "LOUD NOISES"],
  ["Ｕ\uff80\uff70\uff9d", "Uターン"],
  ["\ufb02u\ufb03e\ufb06", "fluffiest"],
  ["P&EACUTE;REZ", "PÉREZ"],
  ["BUNDESSTRA&SZLIG;E", "BUNDESSTRASSE"],
  ["&ntilde; &Ntilde; &NTILDE; &nTILDE;", "ñ Ñ Ñ &nTILDE;"],
  ["\u201chere\u2019s a test\u201d", `"here's a test"`],
  ["\u02bc \u2018 \u201b \u201f \u201e \u2032", `' ' ' " " \u2032`],
  ["\x1b[36;44mI'm blue, da ba dee da ba doo...\x1b[0m", "I'm blue, da ba dee da ba doo..."],
  ["two things:\u20291. Unicode\u20282. Spite", "two things:\n1. Unicode\n2. Spite"],
  ["text/plain\r\n\r\nHi.", "text/plain\n\nHi."],
  ["Microsoft \r trolls", "Microsoft \n trolls"],
  ["\x93quoted\x94 \x96", '"quoted" –'],
  ["e\u0301 \u1100\u1161 \u0344", "\u00e9 \uac00 \u0308\u0301"],
  ["a\u206ab\ufff9c\ufffcd\0e\x07f\x7fg\ufeff", "abcdefg"],
  ["left\u200dalone \u200b\u202ex \xad", "left\u200dalone \u200b\u202ex \xad"],
  ["\ud83d\udca9 \ud83d", "\ud83d\udca9 \ufffd"],
  ["\u01c4 \u0133 \u0149", "DŽ ij 'n"],
  // A literal < says that it is HTML, from its line on.
  ["<p>&amp;</p>", "<p>&amp;</p>"],
  ["a &lt; b\n&gt;", "a < b\n>"],
  ["&lt;\n<\n&lt;", "<\n<\n&lt;"],
  ["&#0; &#x110000; &unknown;", "\ufffd \ufffd &unknown;"],
  ["", ""],
];

Deno.test("fixText: as ftfy.fix_text", () => {
  for (const [text, fixed] of FIXED) assertEquals(fixText(text), fixed, JSON.stringify(text));
});

Deno.test("fixText does not repair text that was decoded by the wrong encoding, as ftfy would", () => {
  assertEquals(fixText("\u00e2\u0153\u201d No problems"), '\u00e2\u0153" No problems');
});

Deno.test("cleanPrompt", () => {
  const cases: [string, string][] = [
    ["  a red\n\n circle\t moving\u00a0\u3000right  ", "a red circle moving right"],
    ["a cat\u2019s \u201ctail\u201d, \u2018soft\u2019 \u02bcn\u201f", `a cat's "tail", 'soft' 'n"`],
    ["salt &amp; pepper", "salt & pepper"],
    ["salt &amp;amp; pepper &lt;3", "salt & pepper <3"],
    ["&amp;nbsp;a&nbsp;b&#32;c &#x41;&copy", "a b c A©"],
    ["5 & 6 &unknown; &notit;", "5 & 6 &unknown; ¬it;"],
    ["<b>it&#x2019;s</b> &eacute;", "<b>it\u2019s</b> é"],
    ["\x1ca\x1fb\x85c", "ab…c"],
    ["a\ufeffb", "ab"],
    ["", ""],
    [" \n ", ""],
  ];
  for (const [text, cleaned] of cases) assertEquals(cleanPrompt(text), cleaned);
});
