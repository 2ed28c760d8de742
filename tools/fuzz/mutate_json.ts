import type { Dice } from "./dice.ts";
import { mutateBytes } from "./mutate_bytes.ts";

/** A place in a JSON value: what it is in, and its key. */
interface Place {
  readonly inside: Record<string, unknown> | unknown[];
  readonly key: string;
}

const NUMBERS = [
  0,
  -0,
  1,
  -1,
  2,
  3,
  4,
  7,
  8,
  64,
  1000,
  65536,
  1e6,
  1e7,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 53 - 1,
  2 ** 53,
  1e21,
];
const FRACTIONS = [0.5, -0.5, 1e-300, 1e300, 1.7976931348623157e308, 3.3];
const TEXTS = [
  "",
  " ",
  "0",
  "1",
  "null",
  "a",
  "../x",
  "/etc/passwd",
  "\u001b[31mred\u0007",
  "\ud800",
  "é😀",
  "__proto__",
];

/** JSON text of the value with one to four changes; now and then with changed bytes, too. */
export function mutateJson(value: unknown, dice: Dice): string {
  // A copy that cannot be told from parsed JSON.
  const holder = { root: JSON.parse(JSON.stringify(value)) };
  for (let left = 1 + dice.below(dice.once(2) ? 1 : 4); left > 0; left--) change(holder, dice);
  const text = JSON.stringify(holder.root) ?? "null";
  return dice.once(10) ? new TextDecoder().decode(mutateBytes(new TextEncoder().encode(text), dice)) : text;
}

function change(holder: { root: unknown }, dice: Dice): void {
  const places = placesIn(holder), { inside, key } = dice.of(places), at = inside as Record<string, unknown>;
  switch (dice.below(6)) {
    case 0:
      if (inside !== holder as unknown) Array.isArray(inside) ? inside.splice(Number(key), 1) : delete at[key];
      return;
    case 1: {
      const other = dice.of(places);
      at[key] = structuredClone((other.inside as Record<string, unknown>)[other.key]);
      return;
    }
    case 2:
      if (typeof at[key] === "number") at[key] = nearby(at[key], dice);
      else if (typeof at[key] === "string") at[key] = otherText(at[key], dice);
      else if (Array.isArray(at[key])) {
        at[key].push(structuredClone(dice.once(2) ? at[key][0] : anything(dice)) ?? null);
      } else at[key] = anything(dice);
      return;
    case 3:
      if (typeof at[key] === "object" && at[key] !== null && !Array.isArray(at[key])) {
        (at[key] as Record<string, unknown>)[dice.of(TEXTS)] = anything(dice);
        return;
      }
      at[key] = anything(dice);
      return;
    default:
      at[key] = anything(dice);
  }
}

/** All places of a value; of a long list only the first and last ones. */
function placesIn(holder: { root: unknown }): Place[] {
  const found: Place[] = [],
    walk = (inside: Place["inside"]) => {
      const keys = Object.keys(inside);
      for (const key of keys.length > 40 ? [...keys.slice(0, 30), ...keys.slice(-10)] : keys) {
        found.push({ inside, key });
        const value = (inside as Record<string, unknown>)[key];
        if (typeof value === "object" && value !== null) walk(value as Place["inside"]);
      }
    };
  walk(holder);
  return found;
}

function nearby(value: number, dice: Dice): number {
  return dice.of([value + 1, value - 1, -value, value * 2, Math.floor(value / 2), value + 0.5, value * 1000]);
}

function otherText(text: string, dice: Dice): string {
  const at = dice.below(text.length + 1);
  return dice.of([
    ...[text + text, text.slice(0, at), text.slice(at), `${text.slice(0, at)}${dice.of(TEXTS)}${text.slice(at)}`],
    ...[text.toUpperCase(), text.repeat(50)],
  ]);
}

function anything(dice: Dice): unknown {
  switch (dice.below(10)) {
    case 0:
      return null;
    case 1:
      return dice.once(2);
    case 2:
    case 3:
      return dice.of(NUMBERS);
    case 4:
      return dice.of(FRACTIONS);
    case 5:
      return dice.of(TEXTS);
    case 6:
      return "x".repeat(dice.of([100, 5000, 100_000]));
    case 7:
      return dice.of([[], {}, [null], [[]], { "": "" }, [0, 0, 0]]);
    case 8:
      return new Array(dice.of([10, 1000, 20_000])).fill(dice.of([0, "a", null, 1e9]));
    default:
      return nested(dice.of([10, 70, 500]), dice.once(2));
  }
}

function nested(depth: number, asList: boolean): unknown {
  let value: unknown = 1;
  for (; depth > 0; depth--) value = asList ? [value] : { a: value };
  return value;
}
