/**
 * Clips that take long are kept in a hidden file beside their place until they are done. If such a clip is broken off,
 * the next run goes on from there.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { basename, dirname, join, resolve } from "node:path";
import { printable, TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { isRunning, processName } from "../../gpu/native/processes.ts";
import { kernelsInUse } from "../../gpu/tuning/in_use.ts";
import { parseJsonObject } from "../../model/checkpoint/json.ts";
import { openSafetensors, type TensorSource } from "../../model/checkpoint/safetensors.ts";
import { exists, isNotFound, systemReason } from "../../model/files/file_error.ts";
import { LARGEST_SEED } from "../../model/noise.ts";
import type { GenerateOptions } from "../../model/pipeline.ts";
import { goesOnText, type SamplingState } from "../../model/sampling_state.ts";
import { readSamplingState, saveSamplingState } from "../../model/state_file.ts";
import type { ClipRecord } from "../../model/video/record_text.ts";
import type { Clip } from "./clip_plan.ts";
import { differences } from "./clip_record.ts";
import type { ReadyClip } from "./plan.ts";

/** When states are saved, in milliseconds. Tests save earlier. */
export const SAVING = {
  /** The shortest time of a clip that is kept. */
  clipTakes: 120_000,
  every: 60_000,
  /** How often it is read from the GPU how far a clip is: what a lost one costs, or a step, or the first three, if longer. */
  read: 1000,
};

/** How the name of the file ends. */
const ENDING = ".unfinished";
/** Milliseconds for which a clip that another machine has saved is taken to be in its hands. */
const IN_HANDS = 600_000;

/** The most bytes of a clip's name that are kept in the name of the file, and of a longer one as many characters. */
const LONGEST_STEM = 230, CUT_STEM = 60;

/** The file in which an unfinished clip is kept. */
export function unfinishedPath(out: string): string {
  const path = resolve(out),
    name = basename(path),
    digest = () => createHash("sha256").update(name).digest("hex").slice(0, 8);
  const isLong = new TextEncoder().encode(name).length > LONGEST_STEM;
  const stem = isLong ? `${name.slice(0, CUT_STEM).toWellFormed()}-${digest()}` : name;
  return join(dirname(path), `.${stem}${ENDING}`);
}

/** Removes what is kept of a clip, as when it is done. */
export async function removeUnfinishedClip(out: string): Promise<void> {
  await removeKept(unfinishedPath(out));
}

async function removeKept(path: string): Promise<void> {
  await Deno.remove(path).catch((error) => {
    // What cannot be removed does no harm.
    if (systemReason(error) === undefined) throw error;
  });
}

/** How far a clip is that is being made: it is saved about once a minute, and read when it is made again. */
export class UnfinishedClip {
  readonly #path: string;
  readonly #name: string;
  readonly #start = performance.now();
  /** When it was last saved, or begun. */
  #lastSaved = this.#start;
  #identity: ClipRecord | undefined;
  #latest: SamplingState | undefined;
  #saved: SamplingState | undefined;
  #first = 0;
  #told = false;

  /**
   * @param onNote told in a clause how the clip goes on, and why it is not saved
   * @param how `anew`: how to begin it anew, as the end of such a note; `isSplit`: whether its guidance is
   */
  constructor(
    private readonly clip: ReadyClip,
    private readonly onNote: (note: string) => void,
    private readonly how: { readonly anew?: string; readonly isSplit?: boolean } = {},
  ) {
    this.#path = unfinishedPath(clip.out);
    this.#name = printable(clip.out);
  }

  /** From where the clip goes on: as it was read, or the last step of this process. */
  get latest(): SamplingState | undefined {
    return this.#latest;
  }

  /** What was saved by this process, or read by it. */
  get saved(): SamplingState | undefined {
    return this.#saved;
  }

  /**
   * Looks for what another run has left of the clip, the first time that it is called.
   *
   * @param gpu decides the bytes, too
   * @param again whether the clip is to begin anew, and what is left is removed
   */
  async open(gpu: Gpu, again = false): Promise<void> {
    if (this.#identity) return;
    this.#identity = await identityOf(this.clip, gpu);
    if (again) await removeKept(this.#path);
    if (again || !await exists(this.#path)) return;
    try {
      using source = await openSafetensors(this.#path);
      const why = otherThan(identityIn(source), this.#identity);
      if (why !== undefined) {
        return this.onNote(`${this.#name} was broken off with other settings (${why}), so it begins anew`);
      }
      const state = this.#latest = this.#saved = await readSamplingState(source);
      this.#first = state.step;
      const { seed } = this.clip;
      this.onNote(`${this.#name} was broken off and ${goesOnText(state)}, with the seed ${seed}${this.how.anew ?? ""}`);
    } catch (error) {
      if (!(error instanceof TilereelError)) throw error;
      this.onNote(`${this.#name} was broken off and begins anew, because what was kept of it is damaged`);
    }
  }

  /** For whoever renders the clip. */
  get options(): Pick<GenerateOptions, "onState" | "stateInterval" | "resumeFrom"> {
    const onState = this.#onState, resumeFrom = this.#latest;
    return { onState, stateInterval: SAVING.read, ...resumeFrom && { resumeFrom } };
  }

  readonly #onState = async (state: SamplingState): Promise<void> => {
    this.#latest = state;
    const { step, steps } = state;
    const isDue = performance.now() - this.#lastSaved >= SAVING.every || step === steps;
    if (!isDue || !this.#isLong(step, steps)) return;
    try {
      await saveSamplingState(this.#path, state, {
        clip: JSON.stringify(this.#identity),
        writer: processName(),
      });
      this.#saved = state;
    } catch (error) {
      if (!(error instanceof TilereelError)) throw error;
      this.#tellUnsaved(error.message);
    }
    this.#lastSaved = performance.now();
  };

  /** For {@link GenerateOptions.onProgress}: says of a clip that takes long if it is not kept. */
  readonly onProgress: NonNullable<GenerateOptions["onProgress"]> = ({ stage, done, total }) => {
    const { cache } = this.clip.methods.options;
    if (stage !== "denoise" || done === 0 || !cache || !this.#isLong(done, total)) return;
    const kind = this.clip.record.cache;
    if (!cache.resumable) this.#tellUnsaved(`the cache ${kind} keeps too much`);
    else if (this.how.isSplit) this.#tellUnsaved(`a part of what the cache ${kind} keeps is elsewhere`);
  };

  /** Removes what is kept. Frames may have replaced the current folder, so no path is looked up from there any more. */
  async remove(): Promise<void> {
    await removeKept(this.#path);
  }

  /** Whether the clip takes long, as far as its first steps tell. */
  #isLong(step: number, steps: number): boolean {
    const elapsed = performance.now() - this.#start, taken = Math.max(step - this.#first, 1);
    return this.#first > 0 || elapsed / taken * steps >= SAVING.clipTakes;
  }

  #tellUnsaved(why: string): void {
    if (!this.#told) this.onNote(`${this.#name} begins again if it is broken off, because it cannot be saved: ${why}`);
    this.#told = true;
  }
}

/** Everything on which the bytes of a clip's latents depend. */
async function identityOf({ record }: ReadyClip, gpu: Gpu): Promise<ClipRecord> {
  const { description } = gpu.settings, { families } = await kernelsInUse(gpu);
  return {
    ...record,
    precision: gpu.precision,
    adapter: description.name,
    source: description.source,
    kernels: families.map(({ family, variant }) => `${family} ${variant}`).join(", "),
  };
}

function identityIn({ metadata }: TensorSource): ClipRecord | undefined {
  return parseJsonObject(metadata.clip ?? "");
}

/** What differs between two identities, in words; undefined if nothing does. */
function otherThan(before: ClipRecord | undefined, now: ClipRecord): string | undefined {
  if (!before) return "it does not say which";
  const other = (key: string, what: string) => before[key] === now[key] ? undefined : what;
  return differences(settingsOf(before), settingsOf(now)) ?? other("version", "another version of tilereel") ??
    other("adapter", "another adapter") ?? other("source", "another WebGPU") ?? other("kernels", "other kernels");
}

/** What of an identity are settings that decide the latents. */
function settingsOf({ fps: _fps, quality: _quality, kernels: _kernels, ...settings }: ClipRecord): ClipRecord {
  return settings;
}

/**
 * A clip whose seed was not given, with the seed of one that was broken off and is otherwise the same, if there is one:
 * the same command goes on with it.
 *
 * @param ready makes it ready
 */
export async function withUnfinishedSeed(clip: Clip, ready: (clip: Clip) => Promise<ReadyClip>): Promise<ReadyClip> {
  const planned = await ready(clip);
  for (const [seed, out] of await candidates(clip)) {
    const found = await foundAt(out);
    if (found === undefined) continue;
    const { seed: itsSeed, precision } = found, same = { ...planned.record, seed: itsSeed, precision };
    if (differences(settingsOf(found), settingsOf(same)) !== undefined) continue;
    const own = seed ?? itsSeed;
    if (typeof own === "number" && own === itsSeed && own >= 0 && own <= LARGEST_SEED) {
      await claim(unfinishedPath(out));
      return await ready({ ...clip, seed: own, out });
    }
  }
  return planned;
}

/** The places of clips that were broken off and may be this one, with the seeds in their names. */
async function candidates({ out, seed, taken }: Clip): Promise<(readonly [seed: number | undefined, out: string])[]> {
  if (taken !== "next") return [[undefined, out]];
  const [before, after] = basename(out).split(`-${seed}`) as [string, string], found: [number, string][] = [];
  try {
    for await (const { name } of Deno.readDir(dirname(out))) {
      if (!name.startsWith(`.${before}-`) || !name.endsWith(after + ENDING)) continue;
      const its = name.slice(before.length + 2, -(after + ENDING).length);
      if (/^\d+$/.test(its)) found.push([Number(its), out.replace(`${before}-${seed}`, `${before}-${its}`)]);
    }
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
  return found;
}

/** The identity of a clip that was broken off; undefined if there is none, or somebody may still be making it. */
async function foundAt(out: string): Promise<ClipRecord | undefined> {
  const path = unfinishedPath(out);
  try {
    if (!await exists(path)) return undefined;
    using source = await openSafetensors(path);
    const { mtime } = await Deno.stat(path), age = Date.now() - (mtime?.getTime() ?? 0);
    const isTaken = isRunning(source.metadata.writer ?? "") ?? age < IN_HANDS;
    return isTaken ? undefined : identityIn(source);
  } catch (error) {
    // Damaged, or gone.
    if (error instanceof TilereelError || isNotFound(error)) return undefined;
    throw error;
  }
}

/** Says in the file that this process makes the clip now, so that another one that begins meanwhile leaves it alone. */
async function claim(path: string): Promise<void> {
  try {
    using source = await openSafetensors(path);
    const { clip = "" } = source.metadata, state = await readSamplingState(source);
    await saveSamplingState(path, state, { clip, writer: processName() });
  } catch (error) {
    // What is damaged is said when the clip is begun.
    if (!(error instanceof TilereelError)) throw error;
  }
}
