import { TilereelError } from "../gpu/common/errors.ts";

/** Size and length of a clip. */
export interface ClipSize {
  readonly width: number;
  readonly height: number;
  readonly frames: number;
}

/** The largest of some sizes; the first of equal ones. */
export function largest<T extends ClipSize>(sizes: readonly T[]): T {
  const pixels = ({ width, height, frames }: ClipSize) => width * height * frames;
  return sizes.reduce((most, size) => pixels(size) > pixels(most) ? size : most);
}

/**
 * Which sizes of clips a family can make: an autoencoder packs some pixels and frames into one latent, and a
 * transformer takes latents in patches.
 */
export interface ClipMultiples {
  /** Width and height are multiples of this. */
  readonly side: number;
  /** Frame counts are one more than a multiple of this. */
  readonly frames: number;
}

/**
 * Checks a clip's size and length.
 *
 * @param where begins the message, if a file says them; otherwise errors carry the `option`
 * @throws {TilereelError} that names the nearest that fit
 */
export function checkClip(multiples: ClipMultiples, { width, height, frames }: ClipSize, where = ""): void {
  const isAsked = where === "";
  checkSize(multiples, width, height, `${where}size`, isAsked ? "size" : undefined);
  checkFrames(multiples, frames, `${where}frames`, isAsked ? "frames" : undefined);
}

/**
 * Checks a clip's width and height; `name` begins the message.
 *
 * @throws {TilereelError} that names the nearest size that fits
 */
export function checkSize(
  { side }: Pick<ClipMultiples, "side">,
  width: number,
  height: number,
  name: string,
  option?: string,
): void {
  const sides = [width, height];
  if (sides.every((length) => Number.isInteger(length) && length > 0 && length % side === 0)) return;
  const near = sides.map((length) => Math.max(1, Math.round(length / side)) * side);
  throw new TilereelError(
    `${name} ${width}x${height} does not fit: both must be multiples of ${side}; ` +
      `the nearest that fits is ${near.join("x")}`,
    { option },
  );
}

/**
 * Checks a clip's frame count; `name` begins the message.
 *
 * @throws {TilereelError} that names the nearest counts that fit
 */
export function checkFrames(
  { frames: multiple }: Pick<ClipMultiples, "frames">,
  frames: number,
  name: string,
  option?: string,
): void {
  if (Number.isInteger(frames) && frames > 0 && (frames - 1) % multiple === 0) return;
  const below = Math.floor((frames - 1) / multiple) * multiple + 1;
  const near = [below, below + multiple].filter((count) => count > 0);
  throw new TilereelError(
    `${name} ${frames} does not fit: it must be a multiple of ${multiple} plus 1; ` +
      (near.length === 2 ? `the nearest that fit are ${near.join(" and ")}` : `the least is 1`),
    { option },
  );
}
