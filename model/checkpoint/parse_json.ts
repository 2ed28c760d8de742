/** Models' files nest less than ten deep. What nests deeper could exhaust the stack of whatever walks through it. */
const DEEPEST = 64;
/** The most arrays and objects, and the most values. The largest tokenizers have 0.9 and 2.5 million. */
const MOST_CONTAINERS = 2 ** 21, MOST_VALUES = 2 ** 23;

const QUOTE = 0x22, BACKSLASH = 0x5c, COMMA = 0x2c, COLON = 0x3a;
const ARRAY = 0x5b, ARRAY_END = 0x5d, OBJECT = 0x7b, OBJECT_END = 0x7d;

/**
 * The value of foreign JSON. Its nesting and the number of its values are limited, because a text of a few MB could
 * otherwise take gigabytes.
 *
 * @param unique whether a key that an object has twice is an error. Otherwise its last value counts, as everywhere
 * @throws {SyntaxError} that says as the end of a sentence what is wrong: no JSON, beyond a limit, or not unique
 */
export function parseJson(text: string, { unique = false } = {}): unknown {
  const keys = checkLimits(text), value = JSON.parse(text);
  if (unique && countKeys(value) < keys) throw new SyntaxError("one of its keys is there twice");
  return value;
}

/** Checks the limits of what is valid JSON; the parser finds the rest. Returns the number of keys. */
function checkLimits(text: string): number {
  let depth = 0, containers = 0, commas = 0, keys = 0;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE:
        for (at++; at < text.length && text.charCodeAt(at) !== QUOTE; at++) {
          if (text.charCodeAt(at) === BACKSLASH) at++;
        }
        break;
      case COMMA:
        if (++commas > MOST_VALUES) throw new SyntaxError(`it has more than ${MOST_VALUES} values`);
        break;
      case COLON:
        keys++;
        break;
      case ARRAY:
      case OBJECT:
        if (++depth > DEEPEST) throw new SyntaxError(`it is nested more than ${DEEPEST} deep`);
        if (++containers > MOST_CONTAINERS) {
          throw new SyntaxError(`it has more than ${MOST_CONTAINERS} lists and objects`);
        }
        break;
      case ARRAY_END:
      case OBJECT_END:
        depth--;
    }
  }
  return keys;
}

function countKeys(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  const inside = Object.values(value).reduce((sum: number, each) => sum + countKeys(each), 0);
  return inside + (Array.isArray(value) ? 0 : Object.keys(value).length);
}
