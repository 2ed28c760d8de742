/**
 * Training samples on disk, one safetensors file each, named by a digest of everything that the sample is made from.
 * Anything different gets a different name, so the cache is never out of date.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { fileError, isNotFound } from "../../files/file_error.ts";
import { openSafetensors, readFloat32 } from "../../checkpoint/safetensors.ts";
import { writeSafetensors } from "../../checkpoint/write_safetensors.ts";
import type { TrainingSample } from "./training_set.ts";

/** Everything that determines a sample, by name. Two samples with equal recipes are equal. */
export type Recipe = Readonly<Record<string, string | number | null>>;

/** The version of the files. A new version makes all samples again. */
const FORMAT = "tilereel training sample 1";
/** The number of hexadecimal digits of a file's name: 160 bits. */
const NAME_DIGITS = 40;

/** A folder of samples. */
export class LatentCache {
  /** @param onNote called with a sentence when a file is damaged */
  private constructor(readonly folder: string, private readonly onNote: (note: string) => void) {}

  /**
   * Opens a cache. Its folder is created if there is none.
   *
   * @throws {TilereelError} if the folder cannot be made
   */
  static async open(folder: string, onNote: (note: string) => void = () => {}): Promise<LatentCache> {
    await Deno.mkdir(folder, { recursive: true }).catch((error) => {
      throw fileError(folder, "written", error);
    });
    return new LatentCache(folder, onNote);
  }

  /** Whether the sample exists and is undamaged. */
  async has(recipe: Recipe): Promise<boolean> {
    const path = this.pathOf(recipe);
    try {
      await Deno.stat(path);
    } catch (error) {
      if (isNotFound(error)) return false;
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
   * Reads an existing sample.
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
   * The checksum of an existing sample, from its file.
   *
   * @throws {TilereelError} if it is not, or damaged
   */
  async checksum(recipe: Recipe): Promise<string> {
    using source = await openSafetensors(this.pathOf(recipe));
    return source.metadata.sha256 ?? "";
  }

  /**
   * Stores a sample. Its file is written as a whole or not at all.
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

/** One line of JSON that does not depend on the order of the keys. */
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
