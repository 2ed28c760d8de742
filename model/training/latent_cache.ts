/**
 * Training samples on disk: one safetensors file each, named after everything that the sample is made from. What is
 * made from something else has another name, so nothing in the cache is ever out of date.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { TilereelError } from "../../errors.ts";
import { fileError } from "../checkpoint/file_error.ts";
import { openSafetensors, readFloat32, writeSafetensors } from "../checkpoint/safetensors.ts";
import type { TrainingSample } from "./training_set.ts";

/** Everything that makes a sample what it is, by name. Two samples with equal recipes are equal. */
export type Recipe = Readonly<Record<string, string | number | null>>;

/** Of the files: another one makes all samples anew. */
const FORMAT = "tilereel training sample 1";
/** Hexadecimal digits of a file's name: 160 bits. */
const NAME_DIGITS = 40;

/** A folder of samples. */
export class LatentCache {
  /** @param onNote told in a sentence when a file is damaged */
  private constructor(readonly folder: string, private readonly onNote: (note: string) => void) {}

  /**
   * Opens a cache; its folder is made where there is none.
   *
   * @throws {TilereelError} if the folder cannot be made
   */
  static async open(folder: string, onNote: (note: string) => void): Promise<LatentCache> {
    await Deno.mkdir(folder, { recursive: true }).catch((error) => {
      throw fileError(folder, "written", error);
    });
    return new LatentCache(folder, onNote);
  }

  /** Whether the sample is there, undamaged. */
  async has(recipe: Recipe): Promise<boolean> {
    const path = this.pathOf(recipe);
    try {
      await Deno.stat(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw fileError(path, "read", error);
    }
    try {
      await this.read(recipe);
      return true;
    } catch (error) {
      if (!(error instanceof TilereelError)) throw error;
      this.onNote(`${error.message}; this sample is made again`);
      return false;
    }
  }

  /**
   * A sample that is there.
   *
   * @throws {TilereelError} if it is not, or damaged
   */
  async read(recipe: Recipe): Promise<TrainingSample> {
    const path = this.pathOf(recipe);
    using source = await openSafetensors(path);
    const { format, recipe: madeFrom, sha256 } = source.metadata;
    if (format !== FORMAT || madeFrom !== written(recipe)) {
      throw new TilereelError(`${path} is not the sample that its name says`);
    }
    const { shape, dtype } = source.info("latents"), { shape: textShape, dtype: textDtype } = source.info("text");
    if (dtype !== "F32" || textDtype !== "F32") throw new TilereelError(`${path} is damaged: its numbers are no F32`);
    const latents = await readFloat32(source, "latents"), text = await readFloat32(source, "text");
    const sample = { latents, shape, text, textShape };
    if (digest(sample) !== sha256) throw new TilereelError(`${path} is damaged: its checksum is another`);
    return sample;
  }

  /**
   * Checksum of a sample that is there, as its file says it.
   *
   * @throws {TilereelError} if it is not, or damaged
   */
  async checksum(recipe: Recipe): Promise<string> {
    using source = await openSafetensors(this.pathOf(recipe));
    return source.metadata.sha256 ?? "";
  }

  /**
   * Keeps a sample: its file is there whole or not at all.
   *
   * @throws {TilereelError} if it cannot be written
   */
  async write(recipe: Recipe, sample: TrainingSample): Promise<void> {
    const { latents, shape, text, textShape } = sample;
    await writeSafetensors(this.pathOf(recipe), {
      latents: { dtype: "F32", shape, data: latents },
      text: { dtype: "F32", shape: textShape, data: text },
    }, { format: FORMAT, recipe: written(recipe), sha256: digest(sample) });
  }

  /** The file of a sample. */
  pathOf(recipe: Recipe): string {
    const name = createHash("sha256").update(`${FORMAT}\n${written(recipe)}`).digest("hex").slice(0, NAME_DIGITS);
    return join(this.folder, `${name}.safetensors`);
  }
}

/** One line of JSON, the same whatever the order of the keys. */
function written(recipe: Recipe): string {
  return JSON.stringify(Object.fromEntries(Object.entries(recipe).sort(([a], [b]) => a < b ? -1 : 1)));
}

function digest({ latents, shape, text, textShape }: TrainingSample): string {
  const hash = createHash("sha256").update(JSON.stringify([shape, textShape]));
  for (const { buffer, byteOffset, byteLength } of [latents, text]) {
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest("hex");
}
