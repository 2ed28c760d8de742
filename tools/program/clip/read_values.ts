import { printable, quoted, TilereelError } from "../../../gpu/common/errors.ts";
import { type Sigmas, stepsOf } from "../../../model/schedulers/sigmas.ts";
import { notSupported } from "../not_supported.ts";
import { type OptionKind, type OptionTable, type OptionValues, parseValue, suggestOption } from "../options.ts";

/**
 * Checks values by options' names, as in JSON or a setting. In keys "_" means the same as "-"; null is no value.
 *
 * @param given texts as on the command line, or numbers or lists of numbers
 * @param where what errors begin with
 * @throws {TilereelError} for a key that is no option, a value that its option refuses, or sigmas that contradict steps
 */
export function readValues<T extends OptionTable>(
  given: Readonly<Record<string, unknown>>,
  table: T,
  where: string,
): OptionValues<T> {
  const values: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(given)) {
    const name = key.replaceAll("_", "-"), at = `${where}: ${quoted(key)}`;
    if (!Object.hasOwn(table, name)) throw new TilereelError(unknownKey(key, where, table), { option: name });
    if (value === null) continue;
    const { kind } = table[name]!, text = textOf(value, kind);
    if (text === undefined) {
      const expected = isText(kind) ? "text in quotes" : "text or a number";
      throw new TilereelError(`${at} must be ${expected}, not ${printable(JSON.stringify(value)).slice(0, 60)}`, {
        option: name,
      });
    }
    values[name] = parseValue(table, name, text, at);
  }
  stepsOf(values.sigmas as Sigmas | undefined, values.steps as number | undefined, 0, `${where}: `);
  return values as OptionValues<T>;
}

/**
 * A message or a help text for those who write options as keys of JSON: `--flow-shift` becomes `"flow-shift"`.
 *
 * @param table their options; others stay as they are
 */
export function withKeys(text: string, table: OptionTable): string {
  return text.replace(/--([a-z][a-z-]*)/g, (option, name) => Object.hasOwn(table, name) ? quoted(name) : option);
}

/** The text that would stand on the command line. Numbers of a list have commas between them. */
function textOf(value: unknown, kind: OptionKind): string | undefined {
  if (typeof value === "string") return value;
  const numbers = [value].flat();
  const areNumbers = numbers.length > 0 && numbers.every((entry) => typeof entry === "number");
  return areNumbers && !isText(kind) ? numbers.join() : undefined;
}

function isText(kind: OptionKind): boolean {
  return kind === "text" || kind === "path";
}

function unknownKey(key: string, where: string, table: OptionTable): string {
  const instead = notSupported(key);
  if (instead !== undefined) return `${where}: ${quoted(key)} ${instead}`;
  const names = Object.keys(table), near = suggestOption(key.replaceAll("_", "-"), names, table, quoted);
  return `${where}: unknown key ${quoted(key)}${near || `; keys are ${names.join(", ")}`}`;
}
