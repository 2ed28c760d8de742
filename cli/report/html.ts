/**
 * HTML in which everything that is put in is escaped, unless it is HTML itself.
 *
 * @module
 */

/** A piece of a page. */
export class Html {
  constructor(readonly text: string) {}
}

/** What can stand in a template: text is escaped, pieces are not, arrays are joined, nothing is nothing. */
export type Part = string | number | Html | undefined | readonly Part[];

/** A piece of a page from a template; attributes must stand in double quotes. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return new Html(strings.reduce((page, string, i) => page + textOf(parts[i - 1]) + string));
}

/** Text that is HTML, or the style or script of a page, already. */
export function raw(text: string): Html {
  return new Html(text);
}

function textOf(part: Part): string {
  if (part === undefined) return "";
  if (part instanceof Html) return part.text;
  return typeof part === "string" || typeof part === "number" ? escape(String(part)) : part.map(textOf).join("");
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character]!);
}
