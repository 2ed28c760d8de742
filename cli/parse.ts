/**
 * Parses a command's arguments by its option table.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { TilereelError } from "../errors.ts";
import { notSupported } from "./not_supported.ts";
import { flag, type OptionTable, type OptionValues, suggestOption } from "./options.ts";

/** What a command line was parsed to. */
export interface Parsed<T extends OptionTable> {
  readonly values: OptionValues<T>;
  readonly positionals: string[];
  /** Whether `--help` or `-h` was given; nothing else is checked then. */
  readonly help: boolean;
}

type Tokens = Generator<
  ReturnType<typeof parseArgs<{ args: string[]; strict: false; tokens: true }>>["tokens"][number]
>;

const HELP = flag({ group: "", help: "", short: "h" });

/**
 * Parses `args` by `table`. An option given twice counts as given last, unless it is one of many. Throws a
 * `TilereelError` for an unknown option (with the nearest that exists), a missing or unexpected value, and a value that
 * its option refuses.
 */
export function parseCommand<T extends OptionTable>(args: readonly string[], table: T, command: string): Parsed<T> {
  const options = new Map(Object.entries({ ...table, help: HELP }));
  // What each option was given, in order: text, undefined without one, false for --no-NAME.
  const given = new Map([...options.keys()].map((name) => [name, [] as (string | undefined | false)[]]));
  const unknown: string[] = [], positionals: string[] = [];
  for (const token of readTokens(args, options)) {
    if (token.kind === "positional") positionals.push(token.value);
    if (token.kind !== "option") continue;
    const { name, value } = token;
    const attached = token.inlineValue === true && !token.rawName.startsWith("--");
    const negated = /^no-(.+)$/s.exec(name)?.[1] ?? "";
    // -out is no -o with the value "ut": a value attached to a letter, as in -o=x and -o./x, starts with no letter.
    if (options.has(name) && !(attached && /^[a-z_]/i.test(value!))) {
      given.get(name)!.push(attached ? value!.replace(/^=/, "") : value);
    } else if (options.has(negated) && options.get(negated)!.value === undefined && value === undefined) {
      given.get(negated)!.push(false);
    } else {
      const arg = args[token.index]!;
      // A flag's letter with a value is shown whole: -q alone is an option.
      unknown.push(name === "=" ? arg : arg.replace(/=.*$/s, ""));
    }
  }
  const help = given.get("help")!;
  if (help.length > 0 && help.at(-1) !== false) return { values: {}, positionals: [], help: true };

  if (unknown[0] !== undefined) {
    const shown = unknown[0].slice(0, 60), name = shown.replace(/^-+/, "");
    const instead = notSupported(name);
    if (instead !== undefined) throw new TilereelError(`${shown} ${instead}`);
    const near = suggestOption(name, [...options.keys()], table, (known) => `--${known}`);
    throw new TilereelError(
      `${shown} is no option of "tilereel ${command}"${near || `; see "tilereel ${command} --help"`}`,
    );
  }
  const valued = Object.keys(table).find((name) =>
    table[name]!.value === undefined && given.get(name)!.some((text) => typeof text === "string")
  );
  if (valued !== undefined) throw new TilereelError(`--${valued} takes no value, so write just --${valued}`);
  const values: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(table)) {
    const all = given.get(name)!;
    if (all.length === 0) continue;
    if (option.value === undefined) {
      if (all.at(-1) !== false) values[name] = true;
      continue;
    }
    const parts = (option.many ? all : all.slice(-1)).map((text) => {
      if (typeof text === "string") return option.parse(text, `--${name}`);
      throw new TilereelError(
        `--${name} needs a value: --${name} ${option.value} (or --${name}=${option.value} if it starts with a dash)`,
      );
    });
    values[name] = option.many ? parts.flat() : parts[0];
  }
  return { values: values as OptionValues<T>, positionals, help: false };
}

/** `args` from `start` on as tokens. A value does not look like an option, unless it is a number: `--seed -1`. */
function* readTokens(args: readonly string[], table: ReadonlyMap<string, OptionTable[string]>, start = 0): Tokens {
  const options = Object.fromEntries(
    [...table].map(([name, { value, short }]) => {
      const type = value === undefined ? "boolean" as const : "string" as const;
      return [name, { type, ...short && { short } }];
    }),
  );
  for (const read of parseArgs({ args: args.slice(start), options, strict: false, tokens: true }).tokens) {
    const token = { ...read, index: start + read.index };
    if (token.kind === "option" && token.inlineValue === false && /^(?!-\.?\d)--?[^-]|^--$/.test(token.value)) {
      // node:util makes any next argument the value: from there on they are read again.
      yield { ...token, value: undefined, inlineValue: undefined };
      return yield* readTokens(args, table, token.index + 1);
    }
    yield token;
  }
}
