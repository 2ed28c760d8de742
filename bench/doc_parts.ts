/**
 * The text of a document with its generated parts made anew: they stand between `<!-- KIND: NAME -->` and `<!-- end -->`,
 * as paragraphs of their own or within a line.
 *
 * @param partOf the text of a part by its name; undefined: it stays as it is
 */
export function withParts(text: string, kind: string, partOf: (name: string) => string | undefined): string {
  const parts = new RegExp(`(<!-- ${kind}: ([^>]*?) -->)(\\s*)[^]*?(<!-- end -->)`, "g");
  return text.replace(parts, (before, begin, name, space, end) => {
    const part = partOf(name), around = space.includes("\n") ? "\n\n" : space;
    return part === undefined ? before : `${begin}${around}${part}${around}${end}`;
  });
}
