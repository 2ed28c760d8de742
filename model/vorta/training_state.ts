/**
 * The state of router training between two steps, and its checkpoints. A checkpoint is a safetensors file of the
 * router, the optimizer's moments, and the options of the training. It loads like any other router file.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import { openSafetensors, readFloat32, type TensorToWrite, writeSafetensors } from "../checkpoint/safetensors.ts";
import { checkpointMetadata, checkpointStep, type TrainingIdentity } from "../training/identity.ts";
import type { Router } from "./router.ts";
import { loadRouter } from "./router_file.ts";
import { SETTINGS_KEY, settingsToKwargs, type VortaSettings } from "./settings.ts";

/** The state that a step changes. */
export interface TrainingState {
  /** The number of finished steps. */
  readonly step: number;
  readonly router: Router;
  /** The optimizer's running means of gradients and squared gradients. */
  readonly mean: Router;
  readonly square: Router;
}

const MEAN = "exp_avg.", SQUARE = "exp_avg_sq.";

/** The state before the first step. */
export function startState(router: Router): TrainingState {
  return { step: 0, router, mean: router.zeros(), square: router.zeros() };
}

/**
 * Writes a checkpoint. It appears, or replaces the previous one, only when it is complete.
 *
 * @throws {TilereelError} if it cannot be written
 */
export async function saveState(
  path: string,
  { step, router, mean, square }: TrainingState,
  settings: VortaSettings,
  identity: TrainingIdentity,
): Promise<void> {
  const tensors: Record<string, TensorToWrite> = {};
  for (const [prefix, values] of [["", router], [MEAN, mean], [SQUARE, square]] as const) {
    for (const [name, tensor] of values.parameters()) tensors[prefix + name] = { dtype: "F32", ...tensor };
  }
  await writeSafetensors(path, tensors, {
    [SETTINGS_KEY]: JSON.stringify(settingsToKwargs(settings)),
    ...checkpointMetadata(step, identity),
  });
}

/**
 * Reads a checkpoint, to resume from it.
 *
 * @param identity the identity of the training that resumes
 * @throws {TilereelError} if the file is damaged or no checkpoint, or comes from other options, which are named
 */
export async function loadState(path: string, identity: TrainingIdentity): Promise<TrainingState> {
  using source = await openSafetensors(path);
  const step = checkpointStep(path, source.metadata, identity);
  const { router } = await loadRouter(path);
  const moments = async (prefix: string) => {
    const into = router.zeros();
    for (const [name, { data, shape }] of into.parameters()) {
      const values = await readFloat32(source, prefix + name);
      if (source.info(prefix + name).shape.join() !== shape.join()) {
        throw new TilereelError(`${path} is not a checkpoint: "${prefix}${name}" and "${name}" have different shapes`);
      }
      data.set(values);
    }
    return into;
  };
  return { step, router, mean: await moments(MEAN), square: await moments(SQUARE) };
}
