import { quotedValue, TilereelError } from "../../gpu/common/errors.ts";
import { checkClip, type ClipMultiples, type ClipSize } from "../video_size.ts";
import { Config, isJsonObject } from "./json.ts";

const KEYS = ["width", "height", "frames"] as const;

/**
 * The sizes of clips that a model was trained on: `trained` in its `generation.json`, which is a list such as
 * `[{"width": 832, "height": 480, "frames": 81}]`; nothing if it is absent.
 *
 * @param path names the file in messages
 * @throws {TilereelError} if it is something else, or a size does not fit
 */
export function readTrainedSizes(value: unknown, path: string, multiples: ClipMultiples): ClipSize[] | undefined {
  if (value === undefined) return undefined;
  const expected = `a list such as [{"width": 832, "height": 480, "frames": 81}] was expected`;
  if (!Array.isArray(value) || value.length === 0) {
    throw new TilereelError(`${path}: trained is ${quotedValue(value)}, but ${expected}`);
  }
  return value.map((entry: unknown, i): ClipSize => {
    const where = `${path}: trained[${i}]`;
    if (
      !isJsonObject(entry) || KEYS.some((key) => !Object.hasOwn(entry, key)) || Object.keys(entry).length > KEYS.length
    ) {
      throw new TilereelError(`${where} is ${quotedValue(entry)}, but ${expected}`);
    }
    const config = new Config(where, entry);
    const [width, height, frames] = KEYS.map((key) => config.integer(key, 0)) as [number, number, number];
    const size = { width, height, frames };
    checkClip(multiples, size, `${where}: `);
    return size;
  });
}

/** A clause for a clip that has none of the sizes; nothing if it has one, or if no sizes are known. */
export function sizeNote(
  trained: readonly ClipSize[] | undefined,
  { width, height, frames }: ClipSize,
): string | undefined {
  const isOne = (size: ClipSize) => size.width === width && size.height === height && size.frames === frames;
  if (!trained || trained.some(isOne)) return undefined;
  const byFrames = Map.groupBy(trained, (size) => size.frames);
  const known = [...byFrames].map(([frames, sizes]) =>
    `${sizes.map(({ width, height }) => `${width}x${height}`).join(" or ")} with ${counted(frames)}`
  );
  return `the model was trained on clips of ${known.join(" and ")}, so one of ${width}x${height} with ` +
    `${counted(frames)} may come out worse`;
}

function counted(frames: number): string {
  return `${frames} ${frames === 1 ? "frame" : "frames"}`;
}
