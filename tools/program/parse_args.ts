/**
 * Stands in for `@std/cli/parse-args`, which lives on JSR: the part of its signature that tilereel uses, over
 * `node:util`. When JSR can be reached, point the import map's `@std/cli/parse-args` there and delete this file.
 *
 * @module
 */
import { parseArgs as tokenize } from "node:util";

/** Options of {@link parseArgs}. */
export interface ParseOptions {
  /** Options that take a value. */
  readonly string: readonly string[];
  /** Options that take no value. */
  readonly boolean: readonly string[];
  /** Options of which all values are kept, in an array. Of others the last one counts. */
  readonly collect: readonly string[];
  /** Options without a value that `--no-NAME` sets to false. */
  readonly negatable: readonly string[];
  /** Full names by the short ones. */
  readonly alias: Readonly<Record<string, string>>;
  /** Called with every argument that is not described above; for options also with their name. False leaves it out. */
  readonly unknown: (arg: string, key?: string) => unknown;
}

/** Options by name, and positional arguments under `_`. */
export type Args = { readonly _: string[] } & Readonly<Record<string, unknown>>;

/**
 * Splits a command line into options and positional arguments. Everything after `--` is positional. An option has the
 * value "" if it takes one and none follows it.
 */
export function parseArgs(args: string[], options: ParseOptions): Args {
  const { string, boolean, collect, negatable, alias, unknown } = options;
  const positionals: string[] = [], values: Record<string, unknown> = { _: positionals };
  for (const name of boolean) values[name] = false;
  for (const name of collect) values[name] = [];
  // As options that are unknown to it, so that it never takes the next option for a value.
  const { tokens } = tokenize({
    args: args.map((arg) => arg.replace(/^-(\w)=/, "--$1=")),
    strict: false,
    tokens: true,
  });
  let taken = -1, isEnded = false;
  for (const [i, token] of tokens.entries()) {
    const arg = args[token.index]!;
    if (token.kind === "option-terminator") isEnded = true;
    else if (token.kind === "positional") {
      if (i !== taken && (isEnded || unknown(arg) !== false)) positionals.push(arg);
    } else {
      const name = alias[token.name] ?? token.name, negated = name.replace(/^no-/, "");
      if (string.includes(name)) {
        const next = tokens[i + 1];
        if (token.value === undefined && next?.kind === "positional") taken = i + 1;
        const value = token.value ?? (taken === i + 1 ? args[next!.index]! : "");
        if (collect.includes(name)) (values[name] as string[]).push(value);
        else values[name] = value;
      } else if (boolean.includes(name)) values[name] = true;
      else if (name !== negated && negatable.includes(negated)) values[negated] = false;
      else unknown(arg, name);
    }
  }
  return values as Args;
}
