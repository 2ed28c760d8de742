import { folderAt } from "./files/disk.ts";
import type { FileStore, StoredFile } from "./files/store.ts";

/** A router for VORTA, scores and shapes of tiles for Veda, and a LoRA for few steps, by what they are. */
const NAMES = { router: "router.safetensors", tiles: "tiles.safetensors", lora: "few_steps.safetensors" } as const;

/**
 * A file that a model's folder has in addition to the parts; undefined if it has none.
 *
 * @param model the model's folder
 * @throws {TilereelError} if that cannot be determined
 */
export async function ownFile(model: string | FileStore, what: keyof typeof NAMES): Promise<StoredFile | undefined> {
  const file = folderAt(model).file(NAMES[what]);
  return await file.kind() === "file" ? file : undefined;
}
