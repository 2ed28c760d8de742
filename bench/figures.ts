/**
 * `deno run -A bench/figures.ts`: measures every figure of docs/performance.md on one source of devices, the most
 * important first, and saves after each. `tools/gpu_machine/run.sh figures` runs it on a GPU machine, and
 * `deno task figures DIR` writes the tables and plots of the docs from what it saved.
 *
 * @module
 */
import { Gpu } from "../gpu/gpu.ts";
import { precisionName } from "../gpu/precision.ts";
import { integer, notation, type OptionValues } from "../tools/program/options.ts";
import { runAsProgram } from "../tools/program/run_command.ts";
import { type Figure, type FiguresRun, type SectionName, SECTIONS } from "./figures/sections.ts";
import { benchOptions, handOver, measuredOn, onGpu, saveResult, sizeOption } from "./program.ts";
import { tableOf } from "./table.ts";

const { precision: _, ...others } = benchOptions;
const NAMES = Object.keys(SECTIONS) as SectionName[];

const options = {
  ...others,
  size: sizeOption,
  only: notation<readonly SectionName[]>(
    { value: "X,Y", help: "What to measure, in this order.", default: NAMES.join() },
    `some of ${NAMES.join(", ")}`,
    (text) => {
      const names = text.split(",") as SectionName[];
      return names.every((name) => NAMES.includes(name)) ? names : undefined;
    },
  ),
  seconds: integer({ value: "N", help: "Nothing more begins after this time.", default: "no limit", min: 1 }),
};

if (import.meta.main) await runAsProgram({ name: "deno run -A bench/figures.ts", options, run: bench });

function bench(values: OptionValues<typeof options>): Promise<void> {
  return onGpu(values, async (auto) => {
    const { device, settings } = auto, { software, features } = settings.description;
    const size = values.size ?? (software ? "small" : "large");
    // The operands of "auto", and the same with int8; one device serves both.
    const gpus = [auto, new Gpu(device, { ...settings, int8: true })];
    const { adapter, source } = measuredOn(auto), date = new Date().toISOString(), begun = performance.now();
    const run: FiguresRun = { adapter, source, date, size, features, figures: [], failures: [], seconds: {} };
    const save = () => saveResult(values, run);
    for (const name of values.only ?? NAMES) {
      for (const gpu of gpus) {
        const precision = precisionName({ ...gpu.settings }), { precisions, measure } = SECTIONS[name];
        if (precision === "int8" && precisions === "auto") continue;
        const what = `${name}, ${precision}`, start = performance.now();
        if (values.seconds !== undefined && start - begun > 1000 * values.seconds) {
          run.failures.push({ what, why: "no time was left" });
          continue;
        }
        const add = (figure: Omit<Figure, "precision">) => {
          run.figures.push({ ...figure, precision });
          console.error(`${what}: ${figure.id} ${figure.value.toPrecision(4)} ${figure.unit}`);
          save();
        };
        try {
          await measure({ gpu, size, add });
        } catch (error) {
          const why = error instanceof Error ? error.message : String(error);
          run.failures.push({ what, why });
          console.error(`${what}: ${why}`);
          await gpu.recover();
        }
        gpu.trim();
        run.seconds[what] = (performance.now() - start) / 1000;
        save();
      }
    }
    handOver(values, run, `\n${adapter} (${source}), ${size}\n\n${table(run)}`);
  });
}

function table({ figures, failures, seconds }: FiguresRun): string {
  const rows = tableOf(figures, {
    "figure": ({ id }) => id,
    "precision": ({ precision }) => precision,
    "value": ({ value, unit }) => `${value.toPrecision(4)} ${unit}`,
    "note": ({ note = "" }) => note,
  });
  const took = Object.entries(seconds).map(([what, time]) => `${what} ${time.toFixed(1)} s`).join("; ");
  return [rows, `Took: ${took}.`, ...failures.map(({ what, why }) => `Not measured: ${what} (${why}).`)].join("\n\n");
}
