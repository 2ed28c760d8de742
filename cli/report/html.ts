import { escapeUTF8 } from "entities";

/** A piece of a page. Everything inserted into a template is escaped, except other HTML. */
export class Html {
  constructor(readonly text: string) {}
}

/** Values that can be inserted: text is escaped, HTML is not, arrays are joined, and undefined is left out. */
export type Part = string | number | Html | undefined | readonly Part[];

/** A piece of a page from a template; attributes must stand in double quotes. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return new Html(strings.reduce((page, string, i) => page + textOf(parts[i - 1]) + string));
}

/** Marks text that is already HTML, or the style or script of a page. */
export function raw(text: string): Html {
  return new Html(text);
}

function textOf(part: Part): string {
  if (part === undefined) return "";
  if (part instanceof Html) return part.text;
  return typeof part === "string" || typeof part === "number" ? escapeUTF8(String(part)) : part.map(textOf).join("");
}
