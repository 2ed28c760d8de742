/** A name of an option, with its value if it is in the same word. */
const OPTION = /^(?:--([^=]+)|-\w*(\w))(?:=(.*))?$/s;
/** What looks like an option, and is a number. */
const NEGATIVE = /^-\.?\d/;

/**
 * The words of a command line behind the command, read without its table of options. The table would load the whole
 * program. What is misread here, the program refuses, or it lacks a right.
 */
export class Arguments {
  readonly positionals: string[] = [];
  readonly #values: [name: string, value: string][] = [];

  /** @param flags options without a value, so that what follows is a positional argument */
  constructor(words: readonly string[], flags: readonly string[] = []) {
    for (let i = 0; i < words.length; i++) {
      const word = words[i]!, [, long, short, value] = NEGATIVE.test(word) ? [] : OPTION.exec(word) ?? [];
      if (word === "--") {
        this.positionals.push(...words.slice(i + 1));
        break;
      }
      const name = long ?? short, next = words[i + 1];
      if (name === undefined) this.positionals.push(word);
      else if (value !== undefined) this.#values.push([name, value]);
      else if (
        next !== undefined && !flags.includes(name.replace(/^no-/, "")) &&
        (NEGATIVE.test(next) || !next.startsWith("-"))
      ) {
        this.#values.push([name, next]);
        i++;
      }
    }
  }

  /** All values that options of these names have. */
  values(...names: readonly string[]): string[] {
    return this.#values.filter(([name]) => names.includes(name)).map(([, value]) => value);
  }
}
