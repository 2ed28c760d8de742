import { createHash } from "node:crypto";
import type { ClipRecord } from "../../model/video/record_text.ts";
import { optionName } from "../../tools/program/clip/clip_settings.ts";
import { methodOptions } from "../../tools/program/clip/method_options.ts";

/** Names of pictures, which say less than their digests. */
const PICTURES = ["image", "lastImage"];

/** The `scene` of a job: all of its clip's planned record but the methods that it is computed with. */
export function sceneOf(record: ClipRecord): string {
  const isMethod = (key: string) => Object.hasOwn(methodOptions, optionName(key.replace(/Digest$/, "")));
  const others = Object.entries(record).filter(([key]) => !isMethod(key) && !PICTURES.includes(key));
  return createHash("sha256").update(JSON.stringify(others)).digest("hex").slice(0, 16);
}
