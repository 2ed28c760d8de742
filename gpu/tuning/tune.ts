/**
 * Chooses kernels for an adapter: by a short trial of all that it can run, whose outcome is remembered.
 *
 * @module
 */
import {
  aboveZero,
  aFlag,
  aFunction,
  check,
  checkOptions,
  instance,
  type Kinds,
  listOf,
  objectWith,
} from "../common/check_options.ts";
import { Gpu } from "../gpu.ts";
import { type FamilyChoice, type KernelChoices, parseChoices } from "./choices.ts";
import { type AnyFamily, FAMILIES } from "./families.ts";
import { openStopwatch } from "./stopwatch.ts";
import { tryFamily } from "./trial.ts";

/** What {@link tuneKernels} may be told. */
export interface TuneOptions {
  /** Makes the trial anew, whatever is remembered. */
  readonly again?: boolean;
  /** Makes no trial: what none found yet stays as it is. For work that is done sooner than a trial. */
  readonly rememberedOnly?: boolean;
  /** Told "choose kernels", in variants. */
  readonly onProgress?: (progress: { readonly stage: string; readonly done: number; readonly total: number }) => void;
  /** To choose from. Default: all there are. */
  readonly families?: readonly AnyFamily[];
  /** Milliseconds that the GPU works before a family is timed: an idle one runs at a low clock. Default: 1000. */
  readonly warmUp?: number;
}

/** What its options must be. */
export const TUNE_KINDS: Kinds<TuneOptions> = {
  again: aFlag,
  rememberedOnly: aFlag,
  onProgress: aFunction,
  warmUp: aboveZero,
  families: listOf(objectWith("a family of kernels", { variants: aFunction }), "a list of families of kernels"),
};

/**
 * Has the `Gpu` use the fastest variant of every kernel: those that an earlier trial on this adapter found or, the
 * first time, those that a trial finds now, which takes up to a minute. A software adapter's kernels are not tried:
 * they are the plain ones. A variant that does not compile or run is left out.
 *
 * @returns what is used; undefined where nothing was to be chosen
 * @throws {TilereelError} when the device is lost
 */
export async function tuneKernels(gpu: Gpu, options: TuneOptions = {}): Promise<KernelChoices | undefined> {
  check("tuneKernels: gpu", gpu, instance(Gpu, "a Gpu, as openGpu opens it,"));
  checkOptions("tuneKernels", options, TUNE_KINDS);
  const { again = false, rememberedOnly = false, families = FAMILIES } = options;
  const open = familiesToTry(gpu, families);
  if (open.length === 0) return undefined;
  const known = again ? undefined : await rememberedChoices(gpu, families);
  const choices = known ?? (rememberedOnly ? undefined : await runTrial(gpu, open, options));
  if (!choices) return undefined;
  for (const [family, { variant }] of Object.entries(choices.choices)) gpu.kernels.choose(family, variant);
  return choices;
}

/** What an earlier trial of the same kernels found for the adapter at its precision; undefined if there was none. */
export async function rememberedChoices(
  gpu: Gpu,
  families: readonly AnyFamily[] = FAMILIES,
): Promise<KernelChoices | undefined> {
  const json = await gpu.settings.tuningStore?.get(keyOf(gpu));
  const choices = json === undefined ? undefined : parseChoices(json);
  return choices?.families === await digestOf(gpu, familiesToTry(gpu, families)) ? choices : undefined;
}

/** Whether kernels are chosen for the adapter: a trial would have something to try. */
export function needsTuning(gpu: Gpu, families: readonly AnyFamily[] = FAMILIES): boolean {
  return familiesToTry(gpu, families).length > 0;
}

/** The families that leave a choice. */
function familiesToTry(gpu: Gpu, families: readonly AnyFamily[]): readonly AnyFamily[] {
  if (gpu.kernels.plain || gpu.settings.description.software) return [];
  return families.filter((family) => family.variants(gpu).size > 1);
}

/** Makes the trial and remembers its outcome. */
async function runTrial(
  gpu: Gpu,
  families: readonly AnyFamily[],
  { onProgress = () => {}, warmUp = 1000 }: TuneOptions,
): Promise<KernelChoices> {
  const stage = "choose kernels";
  const total = families.reduce((sum, family) => sum + family.variants(gpu).size, 0);
  let done = 0;
  onProgress({ stage, done, total });
  const choices: Record<string, FamilyChoice> = {};
  const outcome = { families: await digestOf(gpu, families), measured: new Date().toISOString(), choices };
  using stopwatch = await openStopwatch(gpu);
  try {
    for (const family of families) {
      const before = done;
      const told = () => onProgress({ stage, done: ++done, total });
      const choice = await tryFamily(gpu, family, { stopwatch, warmUp }, told);
      if (choice) choices[family.name] = choice;
      // A trial that could not be made leaves its variants out.
      const after = before + family.variants(gpu).size;
      if (done < after) onProgress({ stage, done: done = after, total });
    }
  } finally {
    // Also when a variant brought the device down: the next time it is left alone.
    await gpu.settings.tuningStore?.set(keyOf(gpu), JSON.stringify(outcome));
  }
  return outcome;
}

/** Under which the choices for a device are remembered. */
function keyOf({ settings: { description: { source, name, identity }, precision } }: Gpu): string {
  return [source, name, identity, precision].join(" | ");
}

/** Tells one set of variants from another. */
async function digestOf(gpu: Gpu, families: readonly AnyFamily[]): Promise<string> {
  const names = families.map((family) => [family.name, ...family.variants(gpu).keys()]);
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify(names)));
  return new Uint8Array(digest).toHex().slice(0, 16);
}
