import { quoted, TilereelError } from "../../../gpu/common/errors.ts";
import { baseName, type FileStore } from "../../files/store.ts";
import { isNotFound } from "../../files/file_error.ts";
import { findPart, type FoundPart } from "./found_part.ts";

/** ComfyUI's folders of transformers, and of other parts. */
const TRANSFORMERS = ["diffusion_models", "unet", "checkpoints"],
  OTHERS = ["vae", "text_encoders", "clip", "clip_vision"];
/** The folders of Wan 2.2's two transformers in Wan's repository. */
const EXPERTS = ["high_noise_model", "low_noise_model"];
/** Where ComfyUI and its repositories on Hugging Face keep those folders. */
const ABOVE = ["", "models/", "split_files/"];
const WEIGHTS = /\.(safetensors|gguf|pth)$/i;
/** A file of a set, which its index names. */
const SHARD = /-\d{5}-of-\d{5}\./;
const STEMS = ["diffusion_pytorch_model", "model"];
/** The most files whose headers are looked at. */
const MOST_FILES = 200;

/** What was found in folders. */
export interface Found {
  readonly parts: readonly FoundPart[];
  /** Why a file could not be read, if one could not. */
  readonly damage: TilereelError | undefined;
}

/** The folder in which the parts of a transformer's model lie: its own, or the one that has ComfyUI's folders. */
export function rootOf(transformer: FileStore): FileStore | undefined {
  for (let folder = transformer.parent, depth = 0; folder && depth < 3; folder = folder.parent, depth++) {
    if (TRANSFORMERS.includes(folder.name)) return folder.parent;
  }
  return transformer.parent;
}

/**
 * Finds the parts of models in a folder, in ComfyUI's folders within it, and one level deeper in these.
 *
 * @param root the folder
 * @param own a folder of part weights in the diffusers layout is left out
 * @throws {TilereelError} if there are too many files to look into
 */
export async function findParts(root: FileStore): Promise<Found> {
  const folders = new Map<string, FileStore>([[root.path, root]]);
  for (const name of ABOVE.flatMap((above) => [...TRANSFORMERS, ...OTHERS, ...EXPERTS].map((one) => above + one))) {
    const folder = root.folder(name);
    // One that has a config.json, but for Wan's own two, is a part in the diffusers layout.
    if (await folder.kind() !== "folder") continue;
    if (!EXPERTS.includes(baseName(name)) && await folder.file("config.json").kind()) continue;
    folders.set(folder.path, folder);
    for (const inner of await folder.list()) {
      if (inner.startsWith(".") || WEIGHTS.test(inner)) continue;
      const deeper = folder.folder(inner);
      if (await deeper.kind() === "folder") folders.set(deeper.path, deeper);
    }
  }
  return await partsIn([...folders.values()]);
}

async function partsIn(folders: readonly FileStore[]): Promise<Found> {
  const parts: FoundPart[] = [];
  let damage: TilereelError | undefined, count = 0;
  const take = async (place: FileStore, stem?: string) => {
    try {
      const found = await findPart(place, stem);
      if (found) parts.push(found);
    } catch (error) {
      if (!(error instanceof TilereelError)) throw error;
      damage ??= error;
    }
  };
  for (const folder of folders) {
    const names = (await folder.list().catch(orNone)).sort();
    for (const stem of STEMS) if (names.includes(`${stem}.safetensors.index.json`)) await take(folder, stem);
    for (const name of names.filter((name) => WEIGHTS.test(name) && !SHARD.test(name))) {
      if (++count > MOST_FILES) {
        throw new TilereelError(
          `${
            quoted(folders[0]!.path)
          } holds more than ${MOST_FILES} files of weights; name the transformer's file in it`,
        );
      }
      await take(folder.folder(name));
    }
  }
  return { parts, damage };
}

function orNone(error: unknown): string[] {
  if (isNotFound(error)) return [];
  throw error;
}
