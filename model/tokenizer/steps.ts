/**
 * The steps of a `tokenizer.json` before its model sees the text: normalizers, and splitting.
 *
 * @module
 */
import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { charsmapNormalizer } from "./charsmap.ts";

/** Changes a text. */
export type Normalizer = (text: string) => string;
/** Splits a text into parts that are encoded separately. */
export type Splitter = (text: string, isFirst: boolean) => string[];

/** An entry of `tokenizer.json`. */
export type StepJson = Readonly<Record<string, unknown>> & { readonly type: string };

/** The character that stands for a space inside the tokenizer. */
export const META_SPACE = "▁";

/**
 * The normalizer that `json` describes; none where it is null.
 *
 * @param what names the file in messages
 * @throws {TilereelError} if it is of a kind that is not supported, or damaged
 */
export function normalizerOf(json: unknown, what: string): Normalizer {
  if (json === null || json === undefined) return (text) => text;
  const step = stepOf(json, "normalizer", what);
  switch (step.type) {
    case "Sequence":
      return inTurn(list(step.normalizers, "normalizers", what).map((each) => normalizerOf(each, what)));
    case "Precompiled":
      return charsmapNormalizer(fromBase64(step.precompiled_charsmap, what), what);
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD": {
      const form = step.type;
      return (text) => text.normalize(form);
    }
    case "Lowercase":
      // Each character separately: JavaScript's own conversion would treat a sigma at the end of a word differently.
      return (text) => [...text].map((char) => char.toLowerCase()).join("");
    case "Strip": {
      const { strip_left: left = true, strip_right: right = true } = step;
      return (text) => {
        if (left) text = text.replace(/^\p{White_Space}+/u, "");
        return right ? text.replace(/\p{White_Space}+$/u, "") : text;
      };
    }
    case "Replace": {
      const pattern = patternOf(step.pattern, what), content = String(step.content);
      return (text) => text.replaceAll(pattern, () => content);
    }
    case "Prepend":
      return (text) => text === "" ? text : String(step.prepend) + text;
  }
  throw unsupported(
    "normalizer",
    step.type,
    "Sequence, Precompiled, NFC, NFD, NFKC, NFKD, Lowercase, Strip, Replace or Prepend",
    what,
  );
}

/**
 * The splitter that `json` describes (`pre_tokenizer`); none where it is null.
 *
 * @param what names the file in messages
 * @throws {TilereelError} if it is of a kind that is not supported
 */
export function splitterOf(json: unknown, what: string): Splitter {
  if (json === null || json === undefined) return (text) => [text];
  const step = stepOf(json, "pre_tokenizer", what);
  switch (step.type) {
    case "Sequence": {
      const steps = list(step.pretokenizers, "pretokenizers", what).map((each) => splitterOf(each, what));
      return (text, isFirst) =>
        steps.reduce((parts, split) => parts.flatMap((part, i) => split(part, isFirst && i === 0)), [text]);
    }
    case "WhitespaceSplit":
      return (text) => text.split(/\p{White_Space}+/u).filter((part) => part !== "");
    case "Metaspace":
      return metaspace(step);
  }
  throw unsupported("pre_tokenizer", step.type, "Sequence, WhitespaceSplit or Metaspace", what);
}

/** Spaces become `▁`, one goes in front, and each begins a part of its own. */
function metaspace({ replacement = META_SPACE, prepend_scheme, add_prefix_space, split = true }: StepJson): Splitter {
  const space = String(replacement), scheme = prepend_scheme ?? (add_prefix_space === false ? "never" : "always");
  return (text, isFirst) => {
    let marked = text.replaceAll(" ", space);
    const prepends = scheme === "always" || scheme === "first" && isFirst;
    if (prepends && !marked.startsWith(space)) marked = space + marked;
    if (!split) return [marked];
    const parts: string[] = [];
    for (let from = 0; from < marked.length;) {
      const next = marked.indexOf(space, from + 1), to = next < 0 ? marked.length : next;
      parts.push(marked.slice(from, to));
      from = to;
    }
    return parts;
  };
}

function inTurn(normalizers: readonly Normalizer[]): Normalizer {
  return (text) => normalizers.reduce((before, normalize) => normalize(before), text);
}

function stepOf(json: unknown, kind: string, what: string): StepJson {
  if (typeof json === "object" && json !== null && "type" in json && typeof json.type === "string") {
    return json as StepJson;
  }
  throw new TilereelError(`${what}: a ${kind} has no type; download the file again`);
}

function list(value: unknown, key: string, what: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw new TilereelError(`${what}: ${key} is not a list; download the file again`);
}

function patternOf(pattern: unknown, what: string): string | RegExp {
  const { String: text, Regex: regex } = (pattern ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof text === "string") return text;
  try {
    if (typeof regex === "string") return new RegExp(regex, "gu");
  } catch {
    // The error is thrown below.
  }
  throw new TilereelError(
    `${what}: a normalizer replaces ${JSON.stringify(pattern).slice(0, 60)}, which is no pattern`,
  );
}

function fromBase64(text: unknown, what: string): Uint8Array {
  try {
    return Uint8Array.fromBase64(String(text));
  } catch (cause) {
    throw new TilereelError(`${what}: its precompiled_charsmap is damaged; download it again`, { cause });
  }
}

function unsupported(kind: string, type: string, expected: string, what: string): TilereelError {
  return new TilereelError(
    `${what}: this tokenizer's ${kind} ${quoted(type)} is not supported; ${expected} was expected`,
  );
}
