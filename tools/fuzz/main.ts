/**
 * `deno task fuzz`: feeds mutated inputs to everything that reads what comes from outside. Each case must end with a
 * result or with one clear sentence, within 5 seconds of processor time and 1 GiB of memory. Linux only.
 *
 * @module
 */
import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { didYouMean } from "../../gpu/common/nearest.ts";
import { integer, type OptionValues } from "../program/options.ts";
import { runAsProgram } from "../program/run_command.ts";
import { handleSignals } from "../program/signals.ts";
import { textTable } from "../program/text_table.ts";
import { fuzz, type Tally } from "./fuzz.ts";
import { TARGETS } from "./targets.ts";

const DEFAULT_CASES = 1000;

const options = {
  cases: integer({ help: "Number of cases of each target.", default: DEFAULT_CASES, min: 1 }),
  seed: integer({ help: "Start of all random choices. The same seed gives the same cases.", default: 0, min: 0 }),
  first: integer({ help: "Number of the first case, to run one again.", default: 0, min: 0 }),
};

if (import.meta.main) {
  handleSignals();
  await runAsProgram({
    name: "deno task fuzz",
    description: "Feeds mutated inputs to everything that reads what comes from outside.",
    positional: "TARGET...",
    options,
    notes: `Targets: ${Object.keys(TARGETS).join(", ")}.`,
    run,
  });
}

async function run(values: OptionValues<typeof options>, names: readonly string[]): Promise<number> {
  const { cases = DEFAULT_CASES, seed = 0, first = 0 } = values, known = Object.keys(TARGETS);
  const unknown = names.find((name) => !Object.hasOwn(TARGETS, name));
  if (unknown !== undefined) {
    const near = didYouMean(unknown, known);
    throw new TilereelError(`${quoted(unknown)} is not a target${near || `; the targets are ${known.join(", ")}`}`);
  }
  const rows: [string, Tally][] = [];
  for (const name of names.length > 0 ? names : known) {
    const tally = await fuzz(name, { cases, seed, first });
    rows.push([name, tally]);
    for (const { number, ending, says = "" } of tally.found.slice(0, 20)) {
      console.log(`${name} ${number}: ${ending} ${says}`.trimEnd());
    }
    console.error(`${name}: ${cases} cases, ${tally.found.length} found`);
  }
  const heads = ["target", "cases", "read", "refused", "bug", "hang", "memory", "seconds"];
  console.log(textTable([
    heads,
    ...rows.map(([name, { counts, seconds }]) => [
      ...[name, String(cases)],
      ...(["read", "refused", "bug", "hang", "memory"] as const).map((ending) => String(counts[ending])),
      seconds.toFixed(0),
    ]),
  ]));
  return rows.some(([, { found }]) => found.length > 0) ? 1 : 0;
}
