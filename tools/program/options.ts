/**
 * A command's options as a table: one entry drives parsing, validation and help.
 *
 * @module
 */
import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { didYouMean } from "../../gpu/common/nearest.ts";

/** How a shell completes a value: as the name of a file or of a folder, or as one of these words. */
export type Completion = "file" | "folder" | readonly string[];

/** One option of a command. */
export interface Option<T> {
  /** Heading it stands under in the help. */
  readonly group: string;
  /** One sentence for the help. */
  readonly help: string;
  /** What the value is called in the help, as `DIR`; none for a flag. */
  readonly value?: string;
  /** How the value can be completed, if at all. */
  readonly completion?: Completion;
  /** The default in words, for the help. */
  readonly default?: string;
  /** One letter that means the same. */
  readonly short?: string;
  /** What other programs call it: refused, but answered with this option's name. */
  readonly elsewhere?: readonly string[];
  /** Whether it may be given several times: then T is an array, and each text is parsed to a part of it. */
  readonly many?: true;
  /** Checks the text and turns it into a value. Throws a {@linkcode TilereelError} that starts with `name`. */
  readonly parse: (text: string, name: string) => T;
}

/** The options of a command, by name as typed after `--`. */
// deno-lint-ignore no-explicit-any
export type OptionTable = Readonly<Record<string, Option<any>>>;

/** The values a table parses to: those that were given. */
export type OptionValues<T extends OptionTable> = { [K in keyof T]?: T[K] extends Option<infer V> ? V : never };

/**
 * `: did you mean NAME?` for a name that is none of `names`, or nothing.
 *
 * @param table describes some of them
 */
export function suggestOption(
  given: string,
  names: readonly string[],
  table: OptionTable,
  show: (name: string) => string,
): string {
  const name = given.replaceAll("_", "-");
  const meant = Object.keys(table).find((known) => table[known]!.elsewhere?.includes(name));
  return meant === undefined ? didYouMean(name, names, show) : `: did you mean ${show(meant)}?`;
}

type About = Omit<Option<unknown>, "parse">;

/** An option without a value. */
export function flag(about: Omit<About, "value">): Option<boolean> {
  return { ...about, parse: () => true };
}

/** Any text. */
export function text(about: About & { value: string }): Option<string> {
  return { ...about, parse: (text) => text };
}

/** A path, or another text that must not be empty. */
export function path(about: About & { value: string }): Option<string> {
  return {
    completion: about.value === "DIR" ? "folder" : "file",
    ...about,
    parse: (text, name) => {
      if (text === "") throw new TilereelError(`${name} needs a ${about.value}, but was given nothing`);
      return text;
    },
  };
}

/** An option that may be given several times: the values, in order. */
export function many<T>(option: Option<T>): Option<readonly T[]> {
  return { ...option, many: true, parse: (text, name) => [option.parse(text, name)] };
}

/** A number from `min` to `max`; with `above`, greater than it. */
export function number(
  about: About & { value: string; min?: number; above?: number; max?: number; integer?: boolean },
): Option<number> {
  const { min = -Infinity, above = -Infinity, max = Infinity, integer = false, ...rest } = about;
  const range = above > -Infinity
    ? ` above ${above}${max < Infinity ? ` and at most ${max}` : ""}`
    : max < Infinity
    ? ` from ${min} to ${max}`
    : min > -Infinity
    ? ` of at least ${min}`
    : "";
  return {
    ...rest,
    parse: (text, name) => {
      const value = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text.trim()) ? Number(text) : NaN;
      if (!Number.isFinite(value) || value < min || value <= above || value > max || integer && value % 1 !== 0) {
        throw new TilereelError(
          `${name} must be a ${integer ? "whole number" : "number"}${range}, not ${quoted(text)}`,
        );
      }
      return value;
    },
  };
}

/** A whole number from `min` to `max`. */
export function integer(about: About & { value: string; min?: number; max?: number }): Option<number> {
  return number({ ...about, integer: true });
}

/** An amount of memory in bytes, written with its unit: `2GiB`, `512 MiB`, `1.5GB`. */
export function memory(about: About & { value: string }): Option<number> {
  return {
    ...about,
    parse: (text, name) => {
      const match = /^(\d+\.?\d*|\.\d+)\s*([KMGT])(iB?|B)?$/i.exec(text.trim());
      const power = match ? "KMGT".indexOf(match[2]!.toUpperCase()) + 1 : 0;
      // As everyone means it: GB counts in thousands, GiB and a bare G in 1024s.
      const bytes = match ? Math.floor(Number(match[1]) * (/^B$/i.test(match[3] ?? "") ? 1000 : 1024) ** power) : 0;
      if (bytes <= 0) {
        throw new TilereelError(
          `${name} must be an amount with its unit, as in 2GiB or 512MiB, not ${quoted(text)}`,
        );
      }
      return bytes;
    },
  };
}

/** One of a few words. */
export function choice<const T extends string>(about: Omit<About, "value"> & { of: readonly T[] }): Option<T> {
  const { of, ...rest } = about;
  return {
    ...rest,
    value: of.join("|"),
    completion: of,
    parse: (text, name) => {
      const found = of.find((word) => word === text);
      if (found === undefined) {
        throw new TilereelError(
          `${name} must be ${listOf(of)}, not ${quoted(text)}${didYouMean(text, of)}`,
        );
      }
      return found;
    },
  };
}

function listOf(words: readonly string[]): string {
  return words.length === 1 ? words[0]! : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
}
