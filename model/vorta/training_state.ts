/**
 * Router training between two steps, and its checkpoints: a safetensors file of the router, of the optimizer's moments,
 * and of the options that all of it came from. As a router file it can be loaded like any other.
 *
 * @module
 */
import { TilereelError } from "../../errors.ts";
import { openSafetensors, readFloat32, type TensorToWrite, writeSafetensors } from "../checkpoint/safetensors.ts";
import type { Router } from "./router.ts";
import { loadRouter } from "./router_file.ts";
import { SETTINGS_KEY, settingsToKwargs, type VortaSettings } from "./settings.ts";

/** What a step changes. */
export interface TrainingState {
  /** Steps done. */
  readonly step: number;
  readonly router: Router;
  /** The optimizer's running means of gradients, and of their squares. */
  readonly mean: Router;
  readonly square: Router;
}

/** Everything that the result depends on, by the name of its option. */
export type TrainingIdentity = Readonly<Record<string, string | number>>;

const MEAN = "exp_avg.", SQUARE = "exp_avg_sq.";

/** The state before the first step. */
export function startState(router: Router): TrainingState {
  return { step: 0, router, mean: router.zeros(), square: router.zeros() };
}

/**
 * Writes a checkpoint. The file appears, or replaces the one before, only when it is complete.
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
    step: String(step),
    options: JSON.stringify(identity),
  });
}

/**
 * Reads a checkpoint to go on from.
 *
 * @param identity that of the training that goes on
 * @throws {TilereelError} if the file is damaged or no checkpoint, or comes from other options, which are named
 */
export async function loadState(path: string, identity: TrainingIdentity): Promise<TrainingState> {
  using source = await openSafetensors(path);
  checkIdentity(path, source.metadata.options, identity);
  const step = Number(source.metadata.step);
  if (!Number.isSafeInteger(step) || step < 0) {
    throw new TilereelError(`${path} is no checkpoint: it does not say after which step it was written`);
  }
  const { router } = await loadRouter(path);
  const moments = async (prefix: string) => {
    const into = router.zeros();
    for (const [name, { data, shape }] of into.parameters()) {
      const values = await readFloat32(source, prefix + name);
      if (source.info(prefix + name).shape.join() !== shape.join()) {
        throw new TilereelError(`${path} is no checkpoint: "${prefix}${name}" is of another shape than "${name}"`);
      }
      data.set(values);
    }
    return into;
  };
  return { step, router, mean: await moments(MEAN), square: await moments(SQUARE) };
}

function checkIdentity(path: string, text: string | undefined, now: TrainingIdentity): void {
  if (text === undefined) throw new TilereelError(`${path} is no checkpoint: it does not say what it was trained with`);
  const before = readIdentity(path, text);
  const differ = [...new Set([...Object.keys(before), ...Object.keys(now)])].filter((key) => before[key] !== now[key]);
  if (differ.length === 0) return;
  const one = (key: string) => `${key} was ${before[key] ?? "not given"} and is ${now[key] ?? "not given"}`;
  throw new TilereelError(
    `${path} cannot be gone on from with other options: ${differ.map(one).join(", ")}; ` +
      `give those that it was started with, or another folder to start anew`,
  );
}

function readIdentity(path: string, text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw new TilereelError(`${path} is no checkpoint: its options are not JSON`);
}
