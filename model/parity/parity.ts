import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import type { Check, ParityCase, ParityContext } from "./case.ts";
import { hunyuanPipeline } from "./hunyuan/pipeline.ts";
import { hunyuanTransformer } from "./hunyuan/transformer.ts";
import { vortaHunyuan, vortaHunyuanTrain } from "./hunyuan/vorta.ts";
import { hunyuanVae } from "./hunyuan/vae.ts";
import { tinyClipText, tinyLlama } from "./hunyuan/text_encoders.ts";
import { demoPipeline } from "./pipeline.ts";
import { hunyuanSchedules, schedulers } from "./schedulers.ts";
import { demoTextEncoder, tinyUmt5 } from "./wan/text_encoder.ts";
import { fastWan } from "./wan/fastwan.ts";
import { tokens } from "./tokens.ts";
import { tinyClipVision } from "./wan/clip_vision.ts";
import { imagePipelines } from "./wan/image_pipelines.ts";
import { loras } from "./wan/loras.ts";
import { stepCaches } from "./wan/step_caches.ts";
import { transformer } from "./wan/transformer.ts";
import { vae } from "./wan/vae.ts";
import { vedaInference, vedaSecondOrder } from "./veda.ts";
import { vedaSearch, vedaTeacher } from "./veda_training.ts";
import { vsa } from "./vsa.ts";
import { vortaAttention, vortaEval, vortaTrain } from "./vorta.ts";

/** The cases in the order in which they run: parts that others depend on come first. */
const CASES: readonly ParityCase[] = [
  tokens,
  schedulers,
  hunyuanSchedules,
  tinyUmt5,
  demoTextEncoder,
  tinyLlama,
  tinyClipText,
  tinyClipVision,
  transformer,
  hunyuanTransformer,
  stepCaches,
  loras,
  vae,
  hunyuanVae,
  demoPipeline,
  hunyuanPipeline,
  imagePipelines,
  vortaAttention,
  vortaHunyuan,
  vortaHunyuanTrain,
  vortaTrain,
  vortaEval,
  vedaInference,
  vedaSecondOrder,
  vedaTeacher,
  vedaSearch,
  vsa,
  fastWan,
];

/** A folder of reference tensors by other implementations: diffusers, transformers, the papers' own code. */
export interface ParityPlan {
  readonly runs: readonly { readonly path: string; readonly case: ParityCase }[];
  /** Entries that no case recognises. */
  readonly unknown: readonly string[];
}

/**
 * Finds the cases in a folder.
 *
 * @param skip names of cases that are not run, such as `vorta_train`; other cases may still read their references
 * @throws {TilereelError} if there is no such folder, it has no case, or none of a name in `skip`
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
      throw new TilereelError(`there is no case ${quoted(name)} to skip in ${folder}`);
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
