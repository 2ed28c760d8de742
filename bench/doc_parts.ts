/**
 * The text of a document with its generated parts made anew: they stand between `<!-- KIND: NAME -->` and `<!-- end -->`.
 *
 * @param partOf the text of a part by its name
 */
export function withParts(text: string, kind: string, partOf: (name: string) => string): string {
  const parts = new RegExp(`(<!-- ${kind}: ([^>]*?) -->)[^]*?(<!-- end -->)`, "g");
  return text.replace(parts, (_, begin, name, end) => `${begin}\n\n${partOf(name)}\n\n${end}`);
}
