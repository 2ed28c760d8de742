const LONGEST = 48;

/** The prompt as a part of a file name: lower case, joined by dashes, cut between words, and never empty. */
export function slug(prompt: string): string {
  const words = prompt.normalize("NFC").toLowerCase().match(/[\p{L}\p{M}\p{N}]+/gu) ?? [];
  let name = words.shift()?.slice(0, LONGEST) ?? "clip";
  for (const word of words) {
    if (name.length + 1 + word.length > LONGEST) break;
    name += `-${word}`;
  }
  return name;
}
