/**
 * What was made of one prompt, kept beside its clips, so that a comparison that was broken off can be run again.
 *
 * @module
 */
import { join } from "node:path";
import { TilereelError } from "../../errors.ts";
import { exists } from "../../model/checkpoint/file_error.ts";

/** One prompt under one setting. Files are named from the prompt's folder. */
export interface ClipRecord {
  readonly setting: string;
  readonly file: string;
  readonly poster: string;
  readonly steps: number;
  readonly guidance: number;
  readonly seconds: {
    /** All steps of the sampler. */
    readonly denoise: number;
    /** From the prompt to decoded frames. */
    readonly total: number;
  };
  /** Pairs of queries and keys that were multiplied, of those of full attention. */
  readonly density: number;
  /** Against the first setting's clip, of 8-bit samples. */
  readonly meanSquaredError: number;
  readonly ssim: number;
  /** For routed attention: [steps][layers], a digit a head, an index into `BRANCHES` of model/vorta/branch.ts. */
  readonly routes?: readonly (readonly string[])[];
  /** Of all steps, from 1000 at pure noise to 0. */
  readonly timesteps: readonly number[];
}

/** One prompt under every setting. */
export interface PromptRecord {
  readonly prompt: string;
  readonly seed: number;
  readonly width: number;
  readonly height: number;
  readonly frames: number;
  readonly fps: number;
  /** The clips beside one another, in the settings' order. */
  readonly sideBySide: string;
  /** In the settings' order. */
  readonly clips: readonly ClipRecord[];
}

/** What decides a record: a folder made otherwise is none of this comparison's. */
export type MadeWith = Readonly<Record<string, unknown>>;

const NAME = "figures.json";

/** Writes a record into its folder. */
export async function writeRecord(folder: string, record: PromptRecord, madeWith: MadeWith): Promise<void> {
  await Deno.writeTextFile(join(folder, NAME), `${JSON.stringify({ madeWith, ...record }, null, 1)}\n`);
}

/**
 * The record in a folder, or nothing where there is no such folder.
 *
 * @throws {TilereelError} when the folder holds something else, or was made otherwise
 */
export async function readRecord(folder: string, madeWith: MadeWith): Promise<PromptRecord | undefined> {
  if (!await exists(folder)) return undefined;
  let found: PromptRecord & { madeWith: unknown };
  try {
    found = JSON.parse(await Deno.readTextFile(join(folder, NAME)));
    if (typeof found !== "object" || found === null) throw new TypeError(`${NAME} holds no object`);
  } catch (cause) {
    throw new TilereelError(`${folder} is in the way, and no comparison's: name another folder with --out`, { cause });
  }
  const { madeWith: before, ...record } = found;
  if (JSON.stringify(before) === JSON.stringify(madeWith)) return record;
  const changed = Object.keys(madeWith).filter((key) =>
    JSON.stringify((before as MadeWith | undefined)?.[key]) !== JSON.stringify(madeWith[key])
  );
  throw new TilereelError(
    `${folder} was made with another ${changed.join(", ") || "tilereel"}: name a new folder with --out, or remove it`,
  );
}
