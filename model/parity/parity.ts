/**
 * Comparison with reference tensors of other implementations: diffusers, transformers, the papers' own code.
 *
 * @module
 */
import { TilereelError } from "../../errors.ts";
import type { Check, ParityCase, ParityContext } from "./case.ts";
import { demoPipeline } from "./pipeline.ts";
import { schedulers } from "./schedulers.ts";
import { demoTextEncoder, tinyUmt5 } from "./text_encoder.ts";
import { tokens } from "./tokens.ts";
import { demoTransformer, tinyTransformer } from "./transformer.ts";
import { demoVae, tinyVae } from "./vae.ts";
import { vedaInference } from "./veda.ts";
import { vedaSearch, vedaTeacher } from "./veda_training.ts";
import { vortaAttention, vortaEval, vortaTrain } from "./vorta.ts";

/** In the order they are run: what others build on comes first. */
const CASES: readonly ParityCase[] = [
  tokens,
  schedulers,
  tinyUmt5,
  demoTextEncoder,
  tinyTransformer,
  demoTransformer,
  tinyVae,
  demoVae,
  demoPipeline,
  vortaAttention,
  vortaTrain,
  vortaEval,
  vedaInference,
  vedaTeacher,
  vedaSearch,
];

/** What a folder holds. */
export interface ParityPlan {
  readonly runs: readonly { readonly path: string; readonly case: ParityCase }[];
  /** Entries that no case knows. */
  readonly unknown: readonly string[];
}

/**
 * Finds the cases in a folder.
 *
 * @param skip names of cases that are not to be run, as `vorta_train`; others may still read their references
 * @throws {TilereelError} if there is no such folder, no case in it, or none to skip of such a name
 */
export async function planParity(folder: string, skip: readonly string[] = []): Promise<ParityPlan> {
  let names: string[];
  try {
    names = (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
  } catch {
    throw new TilereelError(`${folder} is not a folder that can be read; a folder of reference tensors was expected`);
  }
  const known = names.filter((name) => CASES.some((entry) => entry.matches.test(name)));
  const caseOf = (name: string) => name.replace(/\.\w+$/, "");
  for (const name of skip) {
    if (!known.some((file) => caseOf(file) === name)) {
      throw new TilereelError(`there is no case ${JSON.stringify(name)} to skip in ${folder}`);
    }
  }
  const runs = CASES.flatMap((entry) =>
    known.filter((name) => entry.matches.test(name) && !skip.includes(caseOf(name)))
      .map((name) => ({ path: `${folder}/${name}`, case: entry }))
  );
  if (runs.length === 0) {
    throw new TilereelError(
      `${folder} holds no parity case: files named as in tests/fixtures were expected, such as demo_transformer.safetensors`,
    );
  }
  return { runs, unknown: names.filter((name) => !known.includes(name)) };
}

/** Runs every case of a plan and yields each comparison as it is made. */
export async function* runParity({ runs }: ParityPlan, context: ParityContext): AsyncIterable<Check> {
  for (const run of runs) yield* run.case.run(run.path, context);
}
