import { parseArgs } from "node:util";
import { TilereelError } from "../../gpu/common/errors.ts";
import { notSupported } from "./not_supported.ts";
import { type OptionTable, type OptionValues, parseValue, suggestOption } from "./options.ts";

/** The result of parsing a command line. */
export interface Parsed<T extends OptionTable> {
  readonly values: OptionValues<T>;
  readonly positionals: string[];
  /** Whether `--help` or `-h` was given; nothing else is checked then. */
  readonly help: boolean;
}

/**
 * Parses `args` by `table`. If an option is given twice, the last one counts, unless it is one of many; `--no-NAME` takes
 * a flag back. A value may begin with a dash if a digit follows. Everything after `--` is positional.
 *
 * @throws {TilereelError} for an unknown option (with the nearest that exists), a missing or unexpected value, and a value
 *   that its option refuses
 */
export function parseCommand<T extends OptionTable>(args: readonly string[], table: T, command: string): Parsed<T> {
  const names = new Map(Object.entries(table).flatMap(([name, { short }]) => [[name, name], [short ?? name, name]]));
  const positionals: string[] = [], flags = new Map<string, boolean>();
  /** The texts of each option; undefined where one is missing. */
  const texts = new Map<string, (string | undefined)[]>();
  const refused: string[] = [];
  let unknown: string | undefined, taken: number | undefined;
  // The table is not told, because the next option would then be taken for a value.
  const { tokens } = parseArgs({
    args: args.map((arg) => arg.replace(/^-(\w)=/, "--$1=")),
    strict: false,
    tokens: true,
  });
  for (const [i, token] of tokens.entries()) {
    const arg = args[token.index]!, next = tokens[i + 1];
    if (token.kind === "option-terminator" || token.index === taken) continue;
    if (token.kind === "positional") {
      positionals.push(arg);
      continue;
    }
    if (token.name === "help" || token.name === "h") return { values: {}, positionals: [], help: true };
    const isNo = !names.has(token.name), name = names.get(isNo ? token.name.replace(/^no-/, "") : token.name);
    const isFlag = name !== undefined && table[name]!.value === undefined;
    if (name === undefined || isNo && !isFlag) unknown ??= arg;
    else if (isFlag) {
      if (token.value !== undefined) refused.push(name);
      flags.set(name, !isNo);
    } else {
      const { alone } = table[name]!;
      const isValue = next?.kind === "positional" && (!alone || alone.test(args[next.index]!)) ||
        next?.kind === "option" && next.index > token.index && !alone && /^-\.?\d/.test(args[next.index]!);
      if (token.value === undefined && isValue) taken = next.index;
      texts.set(name, [...texts.get(name) ?? [], token.value ?? (isValue ? args[next.index] : undefined)]);
    }
  }
  if (unknown !== undefined) throw new TilereelError(unknownOption(unknown, table, command));
  if (refused[0] !== undefined) {
    throw new TilereelError(`--${refused[0]} takes no value, so write just --${refused[0]}`);
  }
  const values: Record<string, unknown> = {};
  for (const [name, isOn] of flags) if (isOn) values[name] = true;
  for (const [name, given] of texts) {
    const { many, value, alone } = table[name]!;
    const parts = (many ? given : given.slice(-1)).map((text) => {
      if (text !== undefined) return parseValue(table, name, text, `--${name}`);
      if (alone) return true;
      throw new TilereelError(
        `--${name} needs a value: --${name} ${value} (or --${name}=${value} if it starts with a dash)`,
      );
    });
    values[name] = many ? parts.flat() : parts[0];
  }
  return { values: values as OptionValues<T>, positionals, help: false };
}

function unknownOption(arg: string, table: OptionTable, command: string): string {
  const given = arg.replace(/=.*$/s, "").slice(0, 60), name = given.replace(/^-+/, "");
  const instead = notSupported(name);
  if (instead !== undefined) return `${given} ${instead}`;
  const near = suggestOption(name, [...Object.keys(table), "help"], table, (name) => `--${name}`);
  return `${given} is not an option of "${command}"${near || `; see "${command} --help"`}`;
}
