/**
 * Where the sampling of a clip stands between two steps, in this machine's memory: a clip that was broken off goes on
 * from there, and ends as if it had not been.
 *
 * @module
 */
import { TilereelError } from "../gpu/common/errors.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { HostTensor } from "./conditioning.ts";
import type { PassesKept, PassesStart } from "./step_passes.ts";

/** How far a clip is. It is plain data, which can be cloned, posted and stored. */
export interface SamplingState {
  /** The number of steps that are done. */
  readonly step: number;
  /** The number of all steps. */
  readonly steps: number;
  /** The latents, and what the scheduler and a step cache keep for the next step, by name. */
  readonly tensors: Readonly<Record<string, HostTensor>>;
  /** So too numbers. */
  readonly numbers: Readonly<Record<string, number>>;
}

/** How a clip goes on, as a note says it. */
export function goesOnText(from: SamplingState | undefined): string {
  return from && from.step > 0 ? `goes on after step ${from.step} of ${from.steps}` : "begins again";
}

/** A state while it is on the GPU. */
export interface StateOnGpu {
  readonly step: number;
  readonly steps: number;
  /** [1, channels, latent frames, height, width] */
  readonly latents: Tensor;
  /** What the scheduler keeps, of the same shape. */
  readonly scheduler: Readonly<Record<string, Tensor>>;
  readonly passes: PassesKept;
  /** How often noise was drawn. */
  readonly draws: number;
}

/** Names in {@link SamplingState}. Those of a part's own tensors and numbers come behind its name and a dot. */
const LATENTS = "latents", RAN = "ran", DRAWS = "draws", SCHEDULER = "scheduler.", CACHE = "cache.";

/** Reads a state, after all work recorded so far. The copies are recorded at once: the tensors may be freed then. */
export async function readState(gpu: Gpu, state: StateOnGpu): Promise<SamplingState> {
  const { step, steps, latents, scheduler, passes: { ran, cache }, draws } = state;
  const tensors = { [LATENTS]: latents, ...under(SCHEDULER, scheduler), ...under(CACHE, cache?.tensors ?? {}) };
  const [read, numbers = {}] = await Promise.all([
    Promise.all(
      Object.entries(tensors).map(async (
        [name, tensor],
      ): Promise<[string, HostTensor]> => [name, { data: await gpu.read(tensor), shape: [...tensor.shape] }]),
    ),
    cache?.numbers,
  ]);
  return {
    ...{ step, steps },
    tensors: { ...Object.fromEntries(read), [RAN]: ran },
    numbers: { [DRAWS]: draws, ...under(CACHE, numbers) },
  };
}

/** The parts of a state that a clip goes on from. */
export interface StateParts {
  readonly step: number;
  readonly latents: HostTensor;
  readonly scheduler: Readonly<Record<string, HostTensor>>;
  readonly passes: PassesStart;
  readonly draws: number;
}

/**
 * The parts of a state.
 *
 * @param clip the shape of its latents, and its number of steps
 * @throws {TilereelError} if the state is of another clip
 */
export function partsOfState(
  { step, steps, tensors, numbers }: SamplingState,
  clip: { readonly shape: readonly number[]; readonly steps: number },
): StateParts {
  const { [LATENTS]: latents, [RAN]: ran } = tensors, { [DRAWS]: draws } = numbers;
  const scheduler = withoutPrefix(SCHEDULER, tensors);
  const size = clip.shape.reduce((a, b) => a * b),
    fits = (tensor: HostTensor | undefined) =>
      tensor?.shape.join() === clip.shape.join() && tensor.data.length === size;
  const isCount = draws !== undefined && Number.isInteger(draws) && draws <= steps;
  const isWhole = latents && ran && isCount && [latents, ...Object.values(scheduler)].every(fits);
  if (!isWhole || steps !== clip.steps || step > steps) {
    throw new TilereelError(
      `the state to go on from is of another clip: step ${step} of ${steps} with latents of ` +
        `[${latents?.shape.join(", ") ?? ""}], but this clip has ${clip.steps} steps and [${clip.shape.join(", ")}]; ` +
        `begin the clip anew, or give the state of one with the same options`,
    );
  }
  const cache = { tensors: withoutPrefix(CACHE, tensors), numbers: withoutPrefix(CACHE, numbers) };
  return { step, latents, scheduler, passes: { ran, cache }, draws };
}

function under<T>(prefix: string, values: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [prefix + name, value]));
}

function withoutPrefix<T>(prefix: string, values: Readonly<Record<string, T>>): Record<string, T> {
  const own = Object.entries(values).filter(([name]) => name.startsWith(prefix));
  return Object.fromEntries(own.map(([name, value]) => [name.slice(prefix.length), value]));
}
