import { quotedValue, TilereelError } from "../../gpu/common/errors.ts";
import type { Grid } from "../attention/grid.ts";
import { nearestSize } from "../attention/sizes.ts";
import { checkClip, type ClipMultiples, type ClipSize } from "../video_size.ts";
import { Config, isJsonObject } from "./json.ts";

const KEYS = ["width", "height", "frames"] as const, SHIFT_KEY = "flow_shift";

/** A size of clips that a model was trained on. */
export interface TrainedSize extends ClipSize {
  /** The flow shift for such clips. Default: the scheduler's */
  readonly flowShift?: number;
}

/**
 * The sizes of clips that a model was trained on: `trained` in its `generation.json`, which is a list such as
 * `[{"width": 832, "height": 480, "frames": 81}]`, also with a `flow_shift`; nothing if it is absent.
 *
 * @param path names the file in messages
 * @throws {TilereelError} if it is something else, or a size does not fit
 */
export function readTrainedSizes(value: unknown, path: string, multiples: ClipMultiples): TrainedSize[] | undefined {
  if (value === undefined) return undefined;
  const expected = `a list such as [{"width": 832, "height": 480, "frames": 81}] was expected`;
  if (!Array.isArray(value) || value.length === 0) {
    throw new TilereelError(`${path}: trained is ${quotedValue(value)}, but ${expected}`);
  }
  return value.map((entry: unknown, i): TrainedSize => {
    const where = `${path}: trained[${i}]`;
    if (
      !isJsonObject(entry) || KEYS.some((key) => !Object.hasOwn(entry, key)) ||
      Object.keys(entry).some((key) => key !== SHIFT_KEY && !KEYS.includes(key as "width"))
    ) {
      throw new TilereelError(`${where} is ${quotedValue(entry)}, but ${expected}`);
    }
    const config = new Config(where, entry);
    const [width, height, frames] = KEYS.map((key) => config.integer(key, 0)) as [number, number, number];
    const size = { width, height, frames };
    checkClip(multiples, size, `${where}: `);
    return config.isNull(SHIFT_KEY) ? size : { ...size, flowShift: config.number(SHIFT_KEY, 1, { positive: true }) };
  });
}

/**
 * The flow shift for a clip: that of the nearest size ({@link nearestSize}). It is undefined where that has none: then the
 * scheduler's counts.
 */
export function trainedFlowShift(trained: readonly TrainedSize[] = [], clip: ClipSize): number | undefined {
  const grid = ({ frames, height, width }: ClipSize): Grid => [frames, height, width];
  return nearestSize(grid(clip), trained.map((size) => ({ ...size, grid: grid(size) })))?.flowShift;
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
