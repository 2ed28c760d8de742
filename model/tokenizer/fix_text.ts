import { decodeHTML, decodeHTMLStrict } from "entities";

/** Letters that were made one: in their own script they stay. */
const LIGATURES: Readonly<Record<string, string>> = {
  ...{ Ĳ: "IJ", ĳ: "ij", ŉ: "ʼn", Ǳ: "DZ", ǲ: "Dz", ǳ: "dz", Ǆ: "DŽ", ǅ: "Dž", ǆ: "dž", Ǉ: "LJ", ǈ: "Lj", ǉ: "lj" },
  ...{ Ǌ: "NJ", ǋ: "Nj", ǌ: "nj", ﬀ: "ff", ﬁ: "fi", ﬂ: "fl", ﬃ: "ffi", ﬄ: "ffl", ﬅ: "ſt", ﬆ: "st" },
};
const LIGATURE = new RegExp(`[${Object.keys(LIGATURES).join("")}]`, "g");
/** Forms of letters as wide as a Chinese character, or half as wide, and the space of that width. */
const WIDTH_FORM = /[\u3000\uff01-\uffef]/g;
const ENTITY = /&#?[0-9A-Za-z]{1,24};/g;
/** Of a terminal: colours and the like. */
// deno-lint-ignore no-control-regex
const TERMINAL_ESCAPE = /\x1b\[[\d;]*[a-zA-Z]/g;
/** Those that neither make white space nor join or order letters. */
// deno-lint-ignore no-control-regex
const CONTROL = /[\0-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]/g;
const C1_CONTROL = /[\x80-\x9f]/g;

/**
 * Fixes a text as `ftfy.fix_text` does with its default settings: HTML entities (unless a `<` says that it is HTML), C1
 * controls as Windows-1252 has them, Latin ligatures, full and half width, curly quotes, line breaks, surrogates without
 * their other half, escapes of terminals, control characters, and NFC; again until nothing changes. Mis-decoded text
 * ("âœ”" for "✔") stays as it is.
 */
export function fixText(text: string): string {
  let isHtml = false;
  return text.split(/(?<=\n)/).map((line) => fixLine(line, isHtml ||= line.includes("<"))).join("");
}

function fixLine(line: string, isHtml: boolean): string {
  for (let before = ""; before !== line;) {
    before = line;
    if (!isHtml) line = line.replace(ENTITY, unescaped);
    line = line
      .replace(C1_CONTROL, (char) => WINDOWS_1252.decode(Uint8Array.of(char.charCodeAt(0))))
      .replace(LIGATURE, (char) => LIGATURES[char]!)
      .replace(WIDTH_FORM, (char) => char.normalize("NFKC"))
      .replace(/[\u02bc\u2018-\u201b]/g, "'")
      .replace(/[\u201c-\u201f]/g, '"')
      .replace(/\r\n|[\r\u2028\u2029\x85]/g, "\n")
      .toWellFormed()
      .replace(TERMINAL_ESCAPE, "")
      .replace(CONTROL, "")
      .normalize("NFC");
  }
  return line;
}

const WINDOWS_1252 = new TextDecoder("windows-1252");

/** An entity as its character; names that were written in capitals too, as `&EACUTE;`. */
function unescaped(entity: string): string {
  if (entity.startsWith("&#")) {
    const char = decodeHTML(entity);
    return char.includes(";") ? entity : char;
  }
  const char = decodeHTMLStrict(entity);
  if (char !== entity || entity !== entity.toUpperCase()) return char;
  // What a shorter name in front would give is no answer to the whole.
  if (decodeHTML(entity) !== entity) return entity;
  const small = decodeHTMLStrict(entity.toLowerCase());
  return small === entity.toLowerCase() ? entity : small.toUpperCase();
}
