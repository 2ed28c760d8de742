/**
 * Checks the library's options at run time: callers in plain JavaScript have no types, and types do not exclude NaN.
 *
 * @module
 */
import { quoted, TilereelError } from "./errors.ts";
import { didYouMean } from "./nearest.ts";

/** The requirement for a value. */
export interface Kind {
  /** In words: "a whole number of at least 1". */
  readonly expected: string;
  // deno-lint-ignore no-explicit-any
  readonly fits: (value: any) => boolean;
}

/** A kind for each option. An option without a kind is a type error. */
export type Kinds<T> = { readonly [K in keyof Required<T>]: Kind };

/**
 * Checks that all names of options are known, and that all values are of their kind. An undefined value counts as not
 * given.
 *
 * @param what the name of the called function, which starts the message: "VideoPipeline.load"
 * @param required options that must be given
 * @throws {TilereelError} that names the option
 */
export function checkOptions<T extends object>(
  what: string,
  options: T,
  kinds: Kinds<T>,
  required: readonly (keyof T & string)[] = [],
): void {
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw new TilereelError(`${what} takes an object of options, not ${shown(options)}`);
  }
  const given = options as Readonly<Record<string, unknown>>, known = kinds as Readonly<Record<string, Kind>>;
  for (const key of required) {
    if (given[key] === undefined) {
      throw new TilereelError(`${what} needs the option ${key}: ${known[key]!.expected.replace(/,$/, "")}`);
    }
  }
  for (const [key, value] of Object.entries(given)) {
    if (!Object.hasOwn(known, key)) {
      const near = didYouMean(key, Object.keys(known));
      throw new TilereelError(
        `${what} has no option ${quoted(key)}${near || `; its options are ${Object.keys(known).join(", ")}`}`,
      );
    }
    if (value !== undefined) check(`${what}: ${key}`, value, known[key]!);
  }
}

/**
 * Checks one value.
 *
 * @param what begins the message
 * @throws {TilereelError} if it is of another kind
 */
export function check(what: string, value: unknown, { fits, expected }: Kind): void {
  if (fits(value)) return;
  const await_ = value instanceof Promise ? " (await it)" : "";
  throw new TilereelError(`${what} is ${shown(value)}${await_}, but ${expected} was expected`);
}

/** @throws {TilereelError} if `path` is not a path */
export function checkPath(what: string, path: unknown): void {
  check(what, path, aPath);
}

export const aText: Kind = { expected: "a text", fits: (value) => typeof value === "string" };
export const aPath: Kind = {
  expected: "a path",
  fits: (value) => typeof value === "string" && value !== "" && !value.includes("\0"),
};
export const aFlag: Kind = { expected: "true or false", fits: (value) => typeof value === "boolean" };
export const aFunction: Kind = { expected: "a function", fits: (value) => typeof value === "function" };
export const floats: Kind = { expected: "a Float32Array", fits: (value) => value instanceof Float32Array };

/** A whole number from `min` to `max`. */
export function wholeNumber(min: number, max = Infinity): Kind {
  return {
    expected: `a whole number ${range(min, max)}`,
    fits: (value) => Number.isSafeInteger(value) && value >= min && value <= max,
  };
}

/** A finite number from `min` to `max`. */
export function aNumber(min: number, max = Infinity): Kind {
  return {
    expected: `a number ${range(min, max)}`,
    fits: (value) => Number.isFinite(value) && value >= min && value <= max,
  };
}

export const aboveZero: Kind = { expected: "a number above 0", fits: (value) => Number.isFinite(value) && value > 0 };

export function oneOf(words: readonly string[]): Kind {
  const all = words.map((word) => `"${word}"`), last = all.pop();
  return {
    expected: all.length === 0 ? `${last}` : `${all.join(", ")} or ${last}`,
    fits: (value) => words.includes(value),
  };
}

// deno-lint-ignore no-explicit-any
export function instance(of: abstract new (...args: any[]) => unknown, expected: string): Kind {
  return { expected, fits: (value) => value instanceof of };
}

export const anAbortSignal: Kind = instance(AbortSignal, "an AbortSignal");

/** An object with these properties, each of its kind; it may have others. */
export function objectWith(expected: string, kinds: Readonly<Record<string, Kind>>): Kind {
  return {
    expected,
    fits: (value) =>
      typeof value === "object" && value !== null &&
      Object.entries(kinds).every(([key, { fits }]) => fits(value[key])),
  };
}

/** A list of values that are all of one kind. */
export function listOf(kind: Kind, expected: string): Kind {
  return { expected, fits: (value) => Array.isArray(value) && value.every(kind.fits) };
}

/** A kind, or nothing. */
export function optional({ expected, fits }: Kind): Kind {
  return { expected, fits: (value) => value === undefined || fits(value) };
}

export function either(a: Kind, b: Kind): Kind {
  return { expected: `${a.expected} or ${b.expected}`, fits: (value) => a.fits(value) || b.fits(value) };
}

function range(min: number, max: number): string {
  return max === Infinity ? `of at least ${min}` : `from ${min} to ${max}`;
}

/** A value in a message. */
function shown(value: unknown): string {
  if (typeof value === "string") return quoted(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value !== "object" || value === null) return String(value);
  const name = value.constructor?.name;
  return name && name !== "Object" ? `a ${name}` : "an object";
}
