import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { didYouMean } from "../../gpu/common/nearest.ts";

/** How a shell completes a value: as the name of a file or of a folder, or as one of these words. */
export type Completion = "file" | "folder" | readonly string[];

/** The kind of an option's value. A "notation" is a text that only its option can read, such as a size. */
export type OptionKind = "flag" | "text" | "path" | "number" | "integer" | "memory" | "choice" | "notation";

/**
 * An option of a command, for parsing, validation and help. All but `parse` is data; help, completion and forms need
 * it.
 */
export interface Option<T> {
  readonly kind: OptionKind;
  /** Whether it describes a clip, or the process that makes clips. */
  readonly scope: "clip" | "process";
  /** Heading it stands under in the help. */
  readonly group: string;
  /** One sentence for the help. */
  readonly help: string;
  /** The name of the value in the help, such as `DIR`; none for a flag. */
  readonly value?: string;
  /** The values that it can have, if they are words. */
  readonly choices?: readonly string[];
  /** The smallest number that it can have. */
  readonly min?: number;
  /** It must be greater than this number. */
  readonly above?: number;
  /** The largest number that it can have. */
  readonly max?: number;
  /** The unit of a number, such as "bytes". */
  readonly unit?: string;
  /** How the value can be completed, if at all; by default as one of {@linkcode Option.choices}. */
  readonly completion?: Completion | undefined;
  /** The default: a number, one of {@linkcode Option.choices}, or words where other things decide it. */
  readonly default?: string | number;
  /** One letter that means the same. */
  readonly short?: string;
  /** Names of the option in other programs. They are refused with a hint at this option. */
  readonly elsewhere?: readonly string[];
  /** It may be given without a value, which is then true, and what follows is its value only if it is such a text. */
  readonly alone?: RegExp;
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

/**
 * Checks a text by the option of a table and turns it into a value.
 *
 * @param where what errors begin with: how the user wrote the option
 * @throws {TilereelError} with the `option`, if it refuses the text
 */
export function parseValue(table: OptionTable, option: string, text: string, where: string): unknown {
  try {
    return table[option]!.parse(text, where);
  } catch (error) {
    throw ofOption(option, error);
  }
}

/** The error as one about an option, if it was given; a bug stays as it is. */
export function ofOption(option: string | undefined, error: unknown): unknown {
  if (option === undefined || !(error instanceof TilereelError)) return error;
  return new TilereelError(error.message, { cause: error, option });
}

/** The options that a caller who is not the user of this machine may give: none that names a file here. */
export function withoutPaths<T extends OptionTable>(table: T): T {
  return Object.fromEntries(Object.entries(table).filter(([, { kind }]) => kind !== "path")) as T;
}

/** An option in the table. The group may be given by {@link inGroup}. */
type About = Omit<Option<unknown>, "kind" | "scope" | "group" | "parse" | "many"> & { readonly group?: string };
/** An option with a value in the table. */
export type AboutValue = About & { readonly value: string };

/** The same options under one heading of the help. */
export function inGroup<T extends OptionTable>(group: string, table: T): T {
  return withAll(table, { group });
}

/** The same options, as describing a clip. */
export function ofClip<T extends OptionTable>(table: T): T {
  return withAll(table, { scope: "clip" });
}

function withAll<T extends OptionTable>(table: T, same: Partial<Option<unknown>>): T {
  return Object.fromEntries(Object.entries(table).map(([name, option]) => [name, { ...option, ...same }])) as T;
}

/** Properties of an option that the table does not set. */
const USUAL = { scope: "process", group: "Options" } as const;

/** An option without a value. */
export function flag(about: Omit<About, "value">): Option<boolean> {
  return { kind: "flag", ...USUAL, ...about, parse: () => true };
}

/** Any text. */
export function text(about: AboutValue): Option<string> {
  return { kind: "text", ...USUAL, ...about, parse: (text) => text };
}

/** A path, or another text that must not be empty. */
export function path(about: AboutValue): Option<string> {
  return {
    kind: "path",
    ...USUAL,
    completion: about.value === "DIR" ? "folder" : "file",
    ...about,
    parse: (text, name) => {
      if (text === "") throw new TilereelError(`${name} needs a ${about.value}, but was given nothing`);
      return text;
    },
  };
}

/**
 * An option that may be given without a value.
 *
 * @param takes the texts that are its value where they stand behind it; behind "=", any text is
 */
export function alone<T>(option: Option<T>, takes: RegExp): Option<T | true> {
  return { ...option, alone: takes };
}

/** An option that may be given several times: the values, in order. */
export function many<T>(option: Option<T>): Option<readonly T[]> {
  return { ...option, many: true, parse: (text, name) => [option.parse(text, name)] };
}

/**
 * A text that only this option can read.
 *
 * @param expected what is said to be expected where `read` gives undefined
 */
export function notation<T>(
  about: AboutValue,
  expected: string,
  read: (text: string, name: string) => T | undefined,
): Option<T> {
  return {
    kind: "notation",
    ...USUAL,
    ...about,
    parse: (text, name) => {
      const value = read(text.trim(), name);
      if (value === undefined) {
        const near = didYouMean(text.trim(), about.choices ?? []);
        throw new TilereelError(`${name} must be ${expected}, not ${quoted(text)}${near}`);
      }
      return value;
    },
  };
}

/** A number from `min` to `max`; with `above`, greater than it. Default of `value`: "X" */
export function number(about: About): Option<number> {
  return numeric("number", { value: "X", ...about });
}

/**
 * A whole number from `min` to `max`. Default of `value`: "N"
 *
 * @param check refuses some of them, by an error that begins with `name`
 */
export function integer(about: About, check?: (value: number, name: string) => void): Option<number> {
  return numeric("integer", { value: "N", ...about }, check);
}

function numeric(
  kind: "number" | "integer",
  about: AboutValue,
  check?: (value: number, name: string) => void,
): Option<number> {
  const { min = -Infinity, above = -Infinity, max = Infinity } = about;
  const range = above > -Infinity
    ? ` above ${above}${max < Infinity ? ` and at most ${max}` : ""}`
    : max < Infinity
    ? ` from ${min} to ${max}`
    : min > -Infinity
    ? ` of at least ${min}`
    : "";
  const expected = `a ${kind === "integer" ? "whole number" : "number"}${range}`;
  const option = notation(about, expected, (text, name) => {
    const value = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) ? Number(text) : NaN;
    const fits = Number.isFinite(value) && value >= min && value > above && value <= max;
    if (!fits || kind === "integer" && !Number.isInteger(value)) return undefined;
    check?.(value, name);
    return value;
  });
  return { ...option, kind };
}

/** An amount of memory in bytes, written with its unit: `2GiB`, `512 MiB`, `1.5GB`. */
export function memory(about: AboutValue): Option<number> {
  const option = notation({ unit: "bytes", ...about }, "an amount with its unit, as in 2GiB or 512MiB", (text) => {
    const match = /^(\d+\.?\d*|\.\d+)\s*([KMGT])(iB?|B)?$/i.exec(text);
    if (!match) return undefined;
    const power = "KMGT".indexOf(match[2]!.toUpperCase()) + 1;
    // As everyone means it: GB counts in thousands, GiB and a bare G in 1024s.
    return Math.floor(Number(match[1]) * (/^B$/i.test(match[3] ?? "") ? 1000 : 1024) ** power) || undefined;
  });
  return { ...option, kind: "memory" };
}

/** One of a few words. */
export function choice<const T extends string>(about: Omit<About, "value"> & { choices: readonly T[] }): Option<T> {
  const expected = about.choices.join(", ").replace(/, ([^,]*)$/, " or $1"), choices: readonly T[] = about.choices;
  const option = notation<T>(
    { ...about, value: choices.join("|") },
    expected,
    (text) => choices.find((word) => word === text),
  );
  return { ...option, kind: "choice" };
}
