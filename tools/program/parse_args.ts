/**
 * Stands in for `@std/cli/parse-args`, which lives on JSR: the part of its signature that tilereel uses, over npm's
 * `minimist`. When JSR can be reached, point the import map's `@std/cli/parse-args` there and delete this file.
 *
 * @module
 */
// @ts-types="@types/minimist"
import minimist from "minimist";

/** What {@linkcode parseArgs} is told. */
export interface ParseOptions {
  /** Options that take a value, which stays text. `"_"` keeps positional arguments text. */
  readonly string?: readonly string[];
  /** Options that take no value. */
  readonly boolean?: readonly string[];
  /** Other names: short for long. */
  readonly alias?: Readonly<Record<string, string>>;
  /** Called with every argument that is not described above; `false` leaves it out of the result. */
  readonly unknown?: (arg: string) => boolean;
}

/** Options by name (an option given twice is an array) and positional arguments under `_`. */
export type Args = { readonly _: string[] } & Readonly<Record<string, unknown>>;

/** Splits a command line into options and positional arguments. Everything after `--` is positional. */
export function parseArgs(args: readonly string[], options: ParseOptions): Args {
  return minimist([...args], {
    ...options.string && { string: [...options.string] },
    ...options.boolean && { boolean: [...options.boolean] },
    ...options.alias && { alias: { ...options.alias } },
    ...options.unknown && { unknown: options.unknown },
  });
}
