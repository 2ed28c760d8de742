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

/** Options of {@link tuneKernels}. */
export interface TuneOptions {
  /** Repeats the trial even if a result is remembered. */
  readonly again?: boolean;
  /** Called with the stage "choose kernels"; `done` and `total` count variants. */
  readonly onProgress?: (
    progress: { readonly stage: "choose kernels"; readonly done: number; readonly total: number },
  ) => void;
  /** The families to choose from. Default: all. */
  readonly families?: readonly AnyFamily[];
  /**
   * The seconds that a trial should take. The variants that are likely to be the fastest are tried first, and where
   * kernels compile slowly, not all. Default: 15.
   */
  readonly seconds?: number;
  /** Milliseconds that the GPU works before a family is timed, because an idle one has a low clock. Default: 1000. */
  readonly warmUp?: number;
}

export const TUNE_KINDS: Kinds<TuneOptions> = {
  again: aFlag,
  onProgress: aFunction,
  seconds: aboveZero,
  warmUp: aboveZero,
  families: listOf(objectWith("a family of kernels", { variants: aFunction }), "a list of families of kernels"),
};

/**
 * Makes the `Gpu` use the fastest variant of every kernel family: those that an earlier trial on this adapter found or,
 * the first time, those that a trial finds now, which takes some seconds. Results are remembered in the `Gpu`'s
 * `tuningStore`, and `openGpu` uses them from then on. There is no trial on software adapters. A variant that does not
 * compile or run is left out. Plans of attention must be made after this.
 *
 * @returns the choices; undefined if there was nothing to choose
 * @throws {TilereelError} when the device is lost
 */
export async function tuneKernels(gpu: Gpu, options: TuneOptions = {}): Promise<KernelChoices | undefined> {
  check("tuneKernels: gpu", gpu, instance(Gpu, "a Gpu, as openGpu opens it,"));
  checkOptions("tuneKernels", options, TUNE_KINDS);
  const { again = false, families = FAMILIES } = options;
  const open = familiesToTry(gpu, families);
  if (open.length === 0) return undefined;
  const known = again ? undefined : await useRemembered(gpu, families);
  if (known) return known;
  const choices = await runTrial(gpu, open, options);
  choose(gpu, choices);
  return choices;
}

/** Makes the `Gpu` use what {@link tuneKernels} found earlier on this adapter; returns undefined if it found nothing. */
export async function useRemembered(
  gpu: Gpu,
  families: readonly AnyFamily[] = FAMILIES,
): Promise<KernelChoices | undefined> {
  const choices = familiesToTry(gpu, families).length > 0 ? await rememberedChoices(gpu, families) : undefined;
  if (choices) choose(gpu, choices);
  return choices;
}

function choose(gpu: Gpu, { choices }: KernelChoices): void {
  for (const [family, { variant }] of Object.entries(choices)) gpu.kernels.choose(family, variant);
}

/** The result of an earlier trial of the same variants on this adapter at its precision; undefined if there was none. */
export async function rememberedChoices(
  gpu: Gpu,
  families: readonly AnyFamily[] = FAMILIES,
): Promise<KernelChoices | undefined> {
  const json = await gpu.settings.tuningStore?.get(keyOf(gpu));
  const choices = json === undefined ? undefined : parseChoices(json);
  return choices?.families === await digestOf(gpu, familiesToTry(gpu, families)) ? choices : undefined;
}

/** The families with more than one variant; none where the adapter is software or has plain kernels. */
export function familiesToTry(gpu: Gpu, families: readonly AnyFamily[]): readonly AnyFamily[] {
  if (gpu.kernels.plain || gpu.settings.description.software) return [];
  return families.filter((family) => family.variants(gpu).size > 1);
}

/** Makes the trial and remembers its result. */
async function runTrial(
  gpu: Gpu,
  families: readonly AnyFamily[],
  { onProgress = () => {}, seconds = 15, warmUp = 1000 }: TuneOptions,
): Promise<KernelChoices> {
  const stage = "choose kernels";
  const total = families.reduce((sum, family) => sum + family.variants(gpu).size, 0);
  let done = 0;
  onProgress({ stage, done, total });
  const choices: Record<string, FamilyChoice> = {};
  const outcome = { families: await digestOf(gpu, families), measured: new Date().toISOString(), choices };
  using stopwatch = await openStopwatch(gpu);
  const end = performance.now() + 1000 * seconds;
  try {
    for (const [i, family] of families.entries()) {
      const before = done, now = performance.now();
      // Then variants are warmed up and timed, and the last ones may compile more slowly than those before.
      const until = now + (end - now) / (families.length - i) - 2 * warmUp;
      const told = () => onProgress({ stage, done: ++done, total });
      const choice = await tryFamily(gpu, family, { stopwatch, warmUp, until }, told);
      if (choice) choices[family.name] = choice;
      // Where a trial could not be made, its variants count as done.
      const after = before + family.variants(gpu).size;
      if (done < after) onProgress({ stage, done: done = after, total });
    }
  } finally {
    // Also if a variant made the device fail, so that it is not tried again.
    await gpu.settings.tuningStore?.set(keyOf(gpu), JSON.stringify(outcome));
  }
  return outcome;
}

/** The key under which the choices for a device are remembered. */
function keyOf({ settings: { description: { source, name, identity }, precision, int8 = false } }: Gpu): string {
  return [source, name, identity, precision, ...int8 ? ["int8"] : []].join(" | ");
}

/** Identifies a set of variants. */
async function digestOf(gpu: Gpu, families: readonly AnyFamily[]): Promise<string> {
  const names = families.map((family) => [family.name, ...family.variants(gpu).keys()]);
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify(names)));
  return new Uint8Array(digest).toHex().slice(0, 16);
}
