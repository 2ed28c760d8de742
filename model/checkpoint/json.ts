import { quotedValue, TilereelError } from "../../gpu/common/errors.ts";
import { fileAt } from "../files/disk.ts";
import { readBytes, type StoredFile } from "../files/store.ts";
import { parseJson } from "./parse_json.ts";
import { expectKind, LOOK_AT, recogniseBytes } from "./recognise.ts";

/** A limit far above what files of settings and indices have. */
const LARGEST_JSON = 2 ** 22;

/**
 * Reads a JSON file that holds an object.
 *
 * @param largest the most bytes that such a file has. Default: 4 MiB
 * @throws {TilereelError} if there is no such file, it is too large, it is not JSON, or not an object.
 */
export async function readJsonObject(
  file: string | StoredFile,
  largest = LARGEST_JSON,
): Promise<Record<string, unknown>> {
  const stored = fileAt(file), { path } = stored, bytes = await readBytes(stored, "a JSON file", largest);
  let value: unknown;
  try {
    value = parseJson(new TextDecoder().decode(bytes));
  } catch (error) {
    expectKind(path, recogniseBytes(bytes.subarray(0, LOOK_AT)), ["json", "text", "unknown"], "a JSON file");
    throw new TilereelError(`${path} is not valid JSON: ${(error as Error).message}`, { cause: error });
  }
  if (isJsonObject(value)) return value;
  throw new TilereelError(`${path} does not hold a JSON object`);
}

/** Whether parsed JSON is an object. */
export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The object that JSON says; undefined if the text is no JSON, or says something else. */
export function parseJsonObject(text: string): Record<string, unknown> | undefined {
  try {
    const value = parseJson(text);
    return isJsonObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** The range of a number: inclusive, or exclusive of 0 with `positive`. */
export interface NumberRange {
  readonly min?: number;
  readonly positive?: boolean;
}

/** A limit above the largest models' layers. Each takes memory before its weights are looked for. */
const MOST_LAYERS = 1000;
/** A limit above every count and size in models' configurations; vocabularies and positions come nearest. */
const LARGEST_INTEGER = 2 ** 24;

/**
 * A config file whose values are read by key and type. An absent key has the given default, which is that of diffusers
 * or transformers. A value of the wrong type throws a {@linkcode TilereelError} that names file and key.
 */
export class Config {
  constructor(readonly path: string, readonly values: Readonly<Record<string, unknown>>) {}

  static async read(file: string | StoredFile): Promise<Config> {
    return new Config(fileAt(file).path, await readJsonObject(file));
  }

  /** What a key has in another file. Text is parsed, for the metadata of safetensors are texts. */
  static under(key: string, value: unknown, path: string): Config {
    let object = value;
    try {
      if (typeof value === "string") object = parseJson(value);
    } catch {
      // Said below.
    }
    if (isJsonObject(object)) return new Config(`${path}: ${key}`, object);
    throw new TilereelError(`${path}: ${key} is ${quotedValue(object)}, but a JSON object was expected`);
  }

  /** All keys of the file. */
  keys(): string[] {
    return Object.keys(this.values);
  }

  /** The value as it is; undefined if the key is absent. */
  value(key: string): unknown {
    return Object.hasOwn(this.values, key) ? this.values[key] : undefined;
  }

  /** Whether the key is absent or null. */
  isNull(key: string): boolean {
    return this.value(key) === undefined || this.value(key) === null;
  }

  boolean(key: string, absent: boolean): boolean {
    return this.#typed(key, absent, isBoolean, "true or false");
  }

  string(key: string, absent: string): string {
    return this.#typed(key, absent, isString, "a string");
  }

  /** An integer from `min` (default 1) to `max`. */
  integer(key: string, absent: number, min = 1, max = LARGEST_INTEGER): number {
    return this.#typed(key, absent, isInteger(min, max), wholeNumbers(min, max, "a whole number"));
  }

  /** A number of layers, or of anything else that is made for each. */
  count(key: string, absent: number): number {
    return this.integer(key, absent, 1, MOST_LAYERS);
  }

  /** A length that four divides, as kernels read the inner axis of a matrix product four elements at a time. */
  lengthOfFours(key: string, absent: number): number {
    const length = this.integer(key, absent);
    if (length % 4 !== 0) throw this.unsupported(key, [4 * Math.ceil(length / 4)]);
    return length;
  }

  number(key: string, absent: number, { min = -Infinity, positive = false }: NumberRange = {}): number {
    const inRange = (value: unknown): value is number =>
      typeof value === "number" && Number.isFinite(value) && value >= min && (!positive || value > 0);
    const kind = positive ? "a number above 0" : min > -Infinity ? `a number of at least ${min}` : "a number";
    return this.#typed(key, absent, inRange, kind);
  }

  booleans(key: string, absent: readonly boolean[], length?: number): readonly boolean[] {
    return this.#list(key, absent, isBoolean, "true or false", length);
  }

  /** Integers of at least `min` (default 1). */
  integers(key: string, absent: readonly number[], length?: number, min = 1): readonly number[] {
    const expected = wholeNumbers(min, LARGEST_INTEGER, "whole numbers");
    return this.#list(key, absent, isInteger(min, LARGEST_INTEGER), expected, length);
  }

  numbers(key: string, absent: readonly number[], length?: number): readonly number[] {
    return this.#list(key, absent, isFinite, "numbers", length);
  }

  /**
   * Checks that a key has the one value that tilereel's code assumes.
   *
   * @param absent The value that a file without the key has.
   */
  require(key: string, supported: readonly unknown[], absent: unknown): void {
    const value = Object.hasOwn(this.values, key) ? this.values[key] : absent;
    if (!supported.includes(value)) throw this.unsupported(key, supported);
  }

  /** The error for a value of `key` that tilereel does not support. */
  unsupported(key: string, supported: readonly unknown[]): TilereelError {
    const value = this.value(key);
    const actual = value === undefined ? "is absent, which" : quotedValue(value);
    const expected = supported.map((value) => quotedValue(value)).join(" or ");
    return new TilereelError(`${this.path}: ${key} ${actual} is not supported; ${expected} was expected`);
  }

  #typed<T>(key: string, absent: T, is: (value: unknown) => value is T, kind: string): T {
    const value = this.value(key);
    if (value === undefined) return absent;
    if (!is(value)) {
      throw new TilereelError(`${this.path}: ${key} is ${quotedValue(value)}, but ${kind} was expected`);
    }
    return value;
  }

  #list<T>(
    key: string,
    absent: readonly T[],
    is: (value: unknown) => value is T,
    kind: string,
    length?: number,
  ): readonly T[] {
    const list = this.#typed(
      key,
      absent,
      (value): value is readonly T[] => Array.isArray(value) && value.every(is),
      `a list of ${kind}`,
    );
    if (length !== undefined && list.length !== length) {
      throw new TilereelError(`${this.path}: ${key} has ${list.length} entries, but ${length} were expected`);
    }
    return list;
  }
}

function isBoolean(value: unknown): value is boolean {
  return typeof value === "boolean";
}

function isString(value: unknown): value is string {
  return typeof value === "string";
}

function isFinite(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

function isInteger(min: number, max: number): (value: unknown) => value is number {
  return (value): value is number => Number.isInteger(value) && (value as number) >= min && (value as number) <= max;
}

/** In words. The largest number of all is not named, because nobody means to come near it. */
function wholeNumbers(min: number, max: number, noun: string): string {
  return max === LARGEST_INTEGER ? `${noun} of at least ${min}` : `${noun} from ${min} to ${max}`;
}
