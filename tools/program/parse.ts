/**
 * Parses a command's arguments by its option table.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { TilereelError } from "../../gpu/common/errors.ts";
import { notSupported } from "./not_supported.ts";
import { type OptionTable, type OptionValues, parseValue, suggestOption } from "./options.ts";

/** What a command line was parsed to. */
export interface Parsed<T extends OptionTable> {
  readonly values: OptionValues<T>;
  readonly positionals: string[];
  /** Whether `--help` or `-h` was given; nothing else is checked then. */
  readonly help: boolean;
}

/**
 * Parses `args` by `table`. If an option is given twice, the last one counts, unless it is one of many. Throws a
 * `TilereelError` for an unknown option (with the nearest that exists), a missing or unexpected value, and a value that
 * its option refuses.
 */
export function parseCommand<T extends OptionTable>(args: readonly string[], table: T, command: string): Parsed<T> {
  const names = Object.keys(table), flags = names.filter((name) => table[name]!.value === undefined);
  const alias: Record<string, string> = { h: "help" };
  for (const name of names) if (table[name]!.short) alias[table[name]!.short] = name;
  const unknown: string[] = [];
  const parsed = parseArgs(withJoinedValues(args, table), {
    string: ["_", ...names.filter((name) => !flags.includes(name))],
    boolean: ["help", ...flags],
    collect: names.filter((name) => table[name]!.many),
    negatable: flags,
    alias,
    unknown: (arg, key) => key === undefined || void unknown.push(arg),
  });
  if (parsed.help === true) return { values: {}, positionals: [], help: true };

  if (unknown[0] !== undefined) {
    const given = unknown[0].replace(/=.*$/s, "").slice(0, 60);
    const instead = notSupported(given.replace(/^-+/, ""));
    if (instead !== undefined) throw new TilereelError(`${given} ${instead}`);
    const near = suggestOption(given.replace(/^-+/, ""), [...names, "help"], table, (name) => `--${name}`);
    throw new TilereelError(
      `${given} is not an option of "${command}"${near || `; see "${command} --help"`}`,
    );
  }
  const values: Record<string, unknown> = {};
  for (const name of names) {
    const option = table[name]!;
    if (option.value === undefined) {
      if (args.slice(0, endOfOptions(args)).some((arg) => arg.startsWith(`--${name}=`))) {
        throw new TilereelError(`--${name} takes no value, so write just --${name}`);
      }
      if (parsed[name] === true) values[name] = true;
      continue;
    }
    const given = [parsed[name] ?? []].flat() as string[];
    if (given.length === 0) continue;
    if (given.includes("")) {
      throw new TilereelError(
        `--${name} needs a value: --${name} ${option.value} (or --${name}=${option.value} if it starts with a dash)`,
      );
    }
    const parts = given.map((text) => parseValue(table, name, text === NOTHING ? "" : text, `--${name}`));
    values[name] = option.many ? parts.flat() : parts[0];
  }
  return { values: values as OptionValues<T>, positionals: parsed._, help: false };
}

/** Stands for a value that was given as nothing (`--x=` or `--x ''`): the one text that no argument can be. */
const NOTHING = "\0";

/** Joins options to values that would not be taken for values: negative numbers (`--seed -1`), and nothing. */
function withJoinedValues(args: readonly string[], table: OptionTable): string[] {
  const takeValue = Object.entries(table).filter(([, { value }]) => value !== undefined)
    .flatMap(([name, { short }]) => [`--${name}`, ...short ? [`-${short}`] : []]);
  const end = endOfOptions(args), joined: string[] = [];
  for (const [i, arg] of args.entries()) {
    const isValue = i < end && /^(-\.?\d|$)/.test(arg) && takeValue.includes(args[i - 1] ?? "");
    if (isValue) joined[joined.length - 1] += `=${arg || NOTHING}`;
    else joined.push(i < end && takeValue.some((name) => arg === `${name}=`) ? arg + NOTHING : arg);
  }
  return joined;
}

function endOfOptions(args: readonly string[]): number {
  const end = args.indexOf("--");
  return end === -1 ? args.length : end;
}
