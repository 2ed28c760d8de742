/**
 * Parses a command's arguments by its option table.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { TilereelError } from "../../gpu/common/errors.ts";
import { notSupported } from "./not_supported.ts";
import { type OptionTable, type OptionValues, suggestOption } from "./options.ts";

/** What a command line was parsed to. */
export interface Parsed<T extends OptionTable> {
  readonly values: OptionValues<T>;
  readonly positionals: string[];
  /** Whether `--help` or `-h` was given; nothing else is checked then. */
  readonly help: boolean;
}

/**
 * Parses `args` by `table`. An option given twice counts as given last, unless it is one of many. Throws a
 * `TilereelError` for an unknown option (with the nearest that exists), a missing or unexpected value, and a value that
 * its option refuses.
 */
export function parseCommand<T extends OptionTable>(args: readonly string[], table: T, command: string): Parsed<T> {
  const names = Object.keys(table);
  const flags = names.filter((name) => table[name]!.value === undefined);
  const alias: Record<string, string> = { h: "help" };
  for (const name of names) if (table[name]!.short) alias[table[name]!.short] = name;
  const unknown: string[] = [];
  const parsed = parseArgs(withNegativeValues(args, table), {
    string: ["_", ...names.filter((name) => !flags.includes(name))],
    boolean: ["help", ...flags],
    alias,
    unknown: (arg) => {
      if (!/^-./.test(arg)) return true;
      unknown.push(arg);
      return false;
    },
  });
  if (parsed.help === true) return { values: {}, positionals: [], help: true };

  // minimist takes --no-NAME for any NAME that is known; here only flags can be taken back.
  unknown.push(
    ...args.slice(0, endOfOptions(args)).filter((arg) => {
      const name = /^--no-(.+)$/s.exec(arg)?.[1];
      return name !== undefined && table[name]?.value !== undefined;
    }),
  );
  if (unknown[0] !== undefined) {
    const given = unknown[0].replace(/=.*$/s, "").slice(0, 60);
    const instead = notSupported(given.replace(/^-+/, ""));
    if (instead !== undefined) throw new TilereelError(`${given} ${instead}`);
    const near = suggestOption(given.replace(/^-+/, ""), [...names, "help"], table, (name) => `--${name}`);
    throw new TilereelError(
      `${given} is no option of "tilereel ${command}"${near || `; see "tilereel ${command} --help"`}`,
    );
  }
  for (const name of flags) {
    const withValue = args.slice(0, endOfOptions(args)).find((arg) => arg.startsWith(`--${name}=`));
    if (withValue !== undefined) throw new TilereelError(`--${name} takes no value, so write just --${name}`);
  }
  const values: Record<string, unknown> = {};
  for (const name of names) {
    const option = table[name]!;
    const all: unknown[] = [parsed[name]].flat();
    if (option.value === undefined) {
      if (all.at(-1) === true) values[name] = true;
      continue;
    }
    const given = all.filter((text) => typeof text === "string");
    if (given.length === 0) continue;
    const counted = option.many ? given : given.slice(-1);
    if (counted.includes("") && !isGivenEmpty(args, name, option.short)) {
      throw new TilereelError(
        `--${name} needs a value: --${name} ${option.value} (or --${name}=${option.value} if it starts with a dash)`,
      );
    }
    const parts = counted.map((text) => option.parse(text, `--${name}`));
    values[name] = option.many ? parts.flat() : parts[0];
  }
  return { values: values as OptionValues<T>, positionals: parsed._, help: false };
}

/** Has values that look like options, for they are negative numbers, belong to the option before: `--seed -1`. */
function withNegativeValues(args: readonly string[], table: OptionTable): string[] {
  const names = Object.entries(table).filter(([, { value }]) => value !== undefined)
    .flatMap(([name, { short }]) => [`--${name}`, ...short ? [`-${short}`] : []]);
  const end = endOfOptions(args), joined: string[] = [];
  for (const [i, arg] of args.entries()) {
    const isValue = i < end && /^-\.?\d/.test(arg) && names.includes(args[i - 1] ?? "");
    if (isValue) joined[joined.length - 1] += `=${arg}`;
    else joined.push(arg);
  }
  return joined;
}

/** Whether the option's value was really written as nothing (`--x=` or `--x ''`), rather than left out. */
function isGivenEmpty(args: readonly string[], name: string, short: string | undefined): boolean {
  const own = args.slice(0, endOfOptions(args));
  return own.some((arg, i) =>
    arg === `--${name}=` || (arg === `--${name}` || arg === `-${short}`) && args[i + 1] === ""
  );
}

function endOfOptions(args: readonly string[]): number {
  const end = args.indexOf("--");
  return end === -1 ? args.length : end;
}
