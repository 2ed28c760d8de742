import { quoted, TilereelError } from "../../../gpu/common/errors.ts";
import { samplingOptions, sceneOptions } from "./clip_options.ts";
import { methodOptions } from "./method_options.ts";
import { type AboutValue, notation, type Option, type OptionValues } from "../options.ts";
import { readValues } from "./read_values.ts";

/** The options that settings may differ in. */
export const settingOptions = { ...methodOptions, ...samplingOptions };

/** Values of {@link settingOptions} that were given. */
export type SettingValues = OptionValues<typeof settingOptions>;

/** A setting to compare, written as words: `vorta tau=0.5`, `full steps=10`, `mine: vorta router=x.safetensors`. */
export interface Setting {
  /** Its given name, or its words. */
  readonly name: string;
  /** As they were written, with single spaces between. */
  readonly words: string;
  readonly values: SettingValues;
}

/** An option for a setting. */
export function setting(about: AboutValue): Option<Setting> {
  return notation(about, "a setting", parseSetting);
}

/**
 * Reads a setting: words such as `key=value`, one of which may be only the kind of attention. Values with spaces are
 * quoted. A first word that ends in a colon is the name.
 *
 * @throws {TilereelError} that starts with `name`, for a key or a value that is none
 */
export function parseSetting(text: string, name: string): Setting {
  const where = `${name} ${quoted(text)}`;
  const [, called, rest] = /^\s*(?:([^=]*?):(?=\s|$))?(.*)$/s.exec(text)!;
  const words = splitWords(rest!, where);
  if (called?.trim() === "") throw new TilereelError(`${where}: there is no name before the colon`);
  if (words.length === 0) {
    throw new TilereelError(`${where} is empty: write a kind of attention, or key=value, as in "vorta tau=0.5"`);
  }
  const given: Record<string, string> = {};
  for (const word of words) {
    const [key, value] = keyAndValue(word, where);
    if (key === "attention" && Object.hasOwn(given, "attention")) {
      throw new TilereelError(
        `${where}: ${quoted(word)} is a second kind of attention: write key=value, or leave one out`,
      );
    }
    if (Object.hasOwn(given, key)) throw new TilereelError(`${where} has ${key} twice: leave one out`);
    given[key] = value;
  }
  const values = readValues(given, settingOptions, where);
  return { name: called?.trim() || words.join(" "), words: words.join(" "), values };
}

/** Splits text at spaces, except within quotes. */
function splitWords(text: string, where: string): string[] {
  const words = text.match(/(?:[^\s"']|"[^"]*"|'[^']*')+|["']/g) ?? [];
  if (words.some((word) => word === '"' || word === "'")) {
    throw new TilereelError(`${where} has an opening quote without a closing one: add it`);
  }
  return words;
}

function keyAndValue(word: string, where: string): [string, string] {
  const [, given, text] = /^([^=]*)=(.*)$/s.exec(word) ?? [];
  if (given === undefined) return ["attention", unquote(word)];
  const key = given.replace(/^--/, "").replaceAll("_", "-");
  if (Object.hasOwn(sceneOptions, key)) {
    throw new TilereelError(`${where}: ${key} is the same for all settings: give it as --${key} instead`);
  }
  return [key, unquote(text!)];
}

function unquote(text: string): string {
  return text.replace(/"([^"]*)"|'([^']*)'/g, (_, double, single) => double ?? single);
}

/**
 * Checks that there is something to compare, and that names tell the settings apart.
 *
 * @throws {TilereelError} if not
 */
export function checkSettings(settings: readonly Setting[]): void {
  if (settings.length === 1) {
    throw new TilereelError(
      `a single --setting cannot be compared with anything: give a second one, as in --setting full --setting "steps=10"`,
    );
  }
  const twice = settings.find(({ name }, i) => settings.findIndex((other) => other.name === name) < i);
  if (twice !== undefined) {
    throw new TilereelError(
      `two settings are called ${quoted(twice.name)}: put a name in front of one, as in --setting ` +
        `"other: ${twice.words}"`,
    );
  }
}
