/**
 * Runs cases in a process of its own, as the parent asks on the standard input, a line of JSON each. It says on the
 * standard output when a case begins, and how it ended.
 *
 * @module
 */
import { classify } from "./classify.ts";
import { Dice } from "./dice.ts";
import { TARGETS } from "./targets.ts";

/** What the parent asks for: the cases `from` to `to` − 1, or an extreme. */
export interface Order {
  readonly target: string;
  readonly seed: number;
  readonly from: number;
  readonly to: number;
  readonly extreme?: string;
}

const output = new TextEncoder();
const say = (line: Readonly<Record<string, unknown>>) => {
  const bytes = output.encode(`${JSON.stringify(line)}\n`);
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
};

/** What was printed during a case. Libraries must not print. */
let printed = "";
for (const name of ["log", "info", "warn", "error", "debug"] as const) {
  console[name] = (...args: unknown[]) => printed += `${args.join(" ").slice(0, 200)}\n`;
}

const root = Deno.args[0]!, opened = new Map<string, (dice: Dice) => Promise<unknown>>();

/** It is empty, whatever workers before this one left there. */
const newFolder = () => Deno.makeTempDir({ dir: root, prefix: "" });

async function run(number: number, work: () => Promise<unknown>): Promise<void> {
  say({ begin: number });
  printed = "";
  let result: ReturnType<typeof classify> = { ending: "read" };
  try {
    await work();
  } catch (error) {
    result = classify(error);
  }
  if (printed !== "" && result.ending !== "bug") {
    result = { ending: "bug", says: `it printed ${JSON.stringify(printed)}` };
  }
  say({ end: number, ...result });
}

const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream());
let text = "";
for await (const piece of lines) {
  text += piece;
  for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
    const { target: name, seed, from, to, extreme }: Order = JSON.parse(text.slice(0, end));
    text = text.slice(end + 1);
    const target = TARGETS[name]!;
    if (extreme !== undefined) {
      const folder = await newFolder();
      await run(from, () => target.extremes![extreme]!(folder));
      await Deno.remove(folder, { recursive: true });
    } else {
      if (!opened.has(name)) opened.set(name, await target.open(await newFolder()));
      const key = [...name].reduce((hash, char) => hash * 31 + char.charCodeAt(0) | 0, 7);
      for (let number = from; number < to; number++) {
        await run(number, () => opened.get(name)!(new Dice(seed, key, number)));
      }
    }
    say({ done: true });
  }
}
Deno.exit(0);
