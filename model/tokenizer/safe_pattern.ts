/**
 * Whether a regular expression of a foreign tokenizer matches in a time that is bounded by the text's length. JavaScript
 * tries all ways to match: `(a+)+b` has exponentially many. So a group that is repeated without a bound may hold
 * neither another repetition nor alternatives. `.*.*.*.*b` takes the fourth power of the length. So an alternative may
 * have three repetitions without a bound. No tokenizer of a model has such a group, and none has more than two.
 */
export function isSafePattern(source: string): boolean {
  // For each open group, and for the whole: whether it holds a repetition or an alternative.
  const open: boolean[] = [false];
  let repetitions = 0;
  for (let at = 0; at < source.length;) {
    const [token] = TOKEN.exec(source.slice(at, at + LONGEST_TOKEN))!;
    at += token.length;
    if (token === "|") {
      open[open.length - 1] = true;
      if (open.length === 1) repetitions = 0;
    }
    if (token.startsWith("(")) {
      open.push(false);
      continue;
    }
    const isGroup = token === ")", holds = isGroup && open.length > 1 ? open.pop()! : false;
    const [repetition = ""] = REPETITION.exec(source.slice(at, at + LONGEST_TOKEN)) ?? [];
    at += repetition.length;
    if (isUnbounded(repetition) && (isGroup && holds || ++repetitions > MOST_REPETITIONS)) return false;
    if (holds || isVariable(repetition)) open[open.length - 1] = true;
  }
  return true;
}

/** The most repetitions without a bound, one after the other. */
const MOST_REPETITIONS = 3;
/** The longest part that is looked at as one: a class of characters. */
const LONGEST_TOKEN = 2000;
/** An escape, a class of characters, the beginning of a group, or one character. */
const TOKEN = /^(?:\\(?:[pP]\{[^}]*\}|u\{[^}]*\}|[^])|\[(?:\\[^]|[^\]\\])*\]|\((?:\?(?:<?[=!]|[a-z-]*:|<[^>]*>))?|[^])/;
const REPETITION = /^(?:[*+?]|\{\d+(?:,\d*)?\})[?+]?/;

function isUnbounded(repetition: string): boolean {
  const [, most] = /^\{\d+,?(\d*)\}/.exec(repetition) ?? [];
  return /^[*+]/.test(repetition) || /^\{\d+,\}/.test(repetition) || Number(most ?? 0) > MOST_TIMES ||
    Number(/^\{(\d+)\}/.exec(repetition)?.[1] ?? 0) > MOST_TIMES;
}

/** A group that is repeated up to so many times counts as one that is repeated without a bound if it is more. */
const MOST_TIMES = 4;

/** Whether it can match in several ways. */
function isVariable(repetition: string): boolean {
  return repetition !== "" && !/^\{\d+\}/.test(repetition);
}
