/** A command line of `tilereel` from its words, with `SECRET` in place of what only the user may know. */
export function lineOf(...words: readonly string[]): string {
  const shown = words.map((word, i) =>
    words[i - 1] === "--token" ? "SECRET" : word.replace(/^--token=.*/s, "--token=SECRET")
  );
  return ["tilereel", ...shown.map(shellQuoted)].join(" ");
}

/** The command line of this process, without --no-resume, and without --resume or with it. */
export function commandLine(resume = false): string {
  const others = Deno.args.filter((arg) => arg !== "--resume" && arg !== "--no-resume");
  return lineOf(...others, ...resume ? ["--resume"] : []);
}

/** A word as shells take it. Control characters, which could change what a terminal shows, are escaped. */
export function shellQuoted(word: string): string {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  if (!/\p{Cc}/u.test(word)) return `'${word.replaceAll("'", `'\\''`)}'`;
  const escaped = word.replace(/[\\']/g, "\\$&")
    .replace(/\p{Cc}/gu, (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return `$'${escaped}'`;
}
