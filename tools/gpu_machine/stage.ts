/**
 * Lays out, in the folder given as the argument, the programs that run on a machine without network: the command line
 * and the benchmarks, each with every module it imports. The demo model is left out: it is packed with the data.
 *
 * @module
 */
import { join } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";
import { bundle } from "../program/bundle.ts";
import { stageProgram } from "../stage_program.ts";

/** Entry points besides those that `stageProgram` bundles. */
const BENCHMARKS = {
  "bench.js": "bench/main.ts",
  "sparse.js": "bench/sparse.ts",
  "quality.js": "bench/quality.ts",
  "veda_quality.js": "bench/veda_quality.ts",
  "full_size.js": "bench/full_size.ts",
  "text_encoder.js": "bench/text_encoder.ts",
  "steps.js": "bench/steps.ts",
  "figures.js": "bench/figures.ts",
  "headline.js": "bench/headline.ts",
  "training.js": "bench/training.ts",
  "arithmetic.js": "bench/arithmetic.ts",
  "sweep.js": "bench/sweep.ts",
  "targets.js": "bench/targets.ts",
};

if (import.meta.main) {
  const [folder] = Deno.args;
  if (folder === undefined) throw new TilereelError("the folder to fill is missing; name it: stage.ts DIR");
  await stageProgram(folder);
  await Deno.remove(join(folder, "demo"), { recursive: true });
  for (const [name, entry] of Object.entries(BENCHMARKS)) await bundle("deno", "--output", join(folder, name), entry);
}
