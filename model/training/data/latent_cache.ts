import { createHash } from "node:crypto";
import { join } from "node:path";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { fileAt } from "../../files/disk.ts";
import { fileError } from "../../files/file_error.ts";
import { parseJsonObject } from "../../checkpoint/json.ts";
import { openSafetensors, readFloat32 } from "../../checkpoint/safetensors.ts";
import { writeSafetensors } from "../../checkpoint/write_safetensors.ts";
import { type HostConditioning, type HostTensor, partsOf } from "../../conditioning.ts";
import type { TrainingSample } from "./training_set.ts";

/** Everything that determines a sample, by name. Two samples with equal recipes are equal. */
export type Recipe = Readonly<Record<string, string | number | null>>;

/** The version of the files. A new version makes all samples again. */
const FORMAT = "tilereel training sample 2";
/** The number of hexadecimal digits of a file's name: 160 bits. */
const NAME_DIGITS = 40;

/**
 * A folder of samples, one safetensors file each, named by a digest of everything that the sample is made from.
 * Anything different gets a different name, so the cache is never out of date.
 */
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
    if (!await fileAt(this.pathOf(recipe)).kind()) return false;
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
      throw new TilereelError(`${path} does not contain the sample that its name says; delete it`);
    }
    if (source.names().some((name) => source.info(name).dtype !== "F32")) {
      throw new TilereelError(`${path} is damaged: its numbers are not F32; delete it`);
    }
    const read = async (name: string) => ({ data: await readFloat32(source, name), shape: source.info(name).shape });
    const { data: latents, shape } = await read("latents");
    const tensors: Record<string, HostTensor> = {};
    for (const name of source.names().filter((name) => name !== "latents")) tensors[name] = await read(name);
    const numbers = parseJsonObject(source.metadata.conditioning ?? "{}");
    if (!numbers || !tensors.text || Object.values(numbers).some((value) => !Number.isFinite(value))) {
      throw new TilereelError(`${path} is damaged: it has no conditioning; delete it`);
    }
    const conditioning = { ...tensors, ...numbers } as unknown as HostConditioning;
    const sample = { latents, shape, conditioning };
    if (digest(sample) !== sha256) {
      throw new TilereelError(`${path} is damaged: its checksum does not match; delete it`);
    }
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
    const { tensors, numbers } = partsOf(sample.conditioning);
    const all = { latents: { data: sample.latents, shape: sample.shape }, ...tensors };
    await writeSafetensors(
      this.pathOf(recipe),
      Object.fromEntries(Object.entries(all).map(([name, tensor]) => [name, { dtype: "F32" as const, ...tensor }])),
      { format: FORMAT, recipe: written(recipe), conditioning: JSON.stringify(numbers), sha256: digest(sample) },
    );
  }

  pathOf(recipe: Recipe): string {
    const name = createHash("sha256").update(`${FORMAT}\n${written(recipe)}`).digest("hex").slice(0, NAME_DIGITS);
    return join(this.folder, `${name}.safetensors`);
  }
}

/** One line of JSON that does not depend on the order of the keys. */
function written(recipe: Recipe): string {
  return JSON.stringify(Object.fromEntries(Object.entries(recipe).sort(([a], [b]) => a < b ? -1 : 1)));
}

function digest({ latents, shape, conditioning }: TrainingSample): string {
  const { tensors, numbers } = partsOf(conditioning), hash = createHash("sha256").update(JSON.stringify(numbers));
  const named = Object.entries(tensors).sort(([a], [b]) => a < b ? -1 : 1);
  for (const [name, tensor] of [["latents", { data: latents, shape }] as const, ...named]) {
    const { buffer, byteOffset, byteLength } = tensor.data;
    hash.update(JSON.stringify([name, tensor.shape])).update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest("hex");
}
