/**
 * Which clip sizes Wan can make: the VAE packs 8×8 pixels and, after the first frame, 4 frames into one latent, and the
 * transformer takes latents in patches of 2×2.
 *
 * @module
 */
import { TilereelError } from "../gpu/common/errors.ts";

/** Size and length of a clip. */
export interface ClipSize {
  readonly width: number;
  readonly height: number;
  readonly frames: number;
}

/** Which sizes of clips a family can make. */
export interface ClipMultiples {
  /** Width and height are multiples of this. */
  readonly side: number;
  /** Frame counts are one more than a multiple of this. */
  readonly frames: number;
}

/** Width and height are multiples of this. */
export const SIZE_MULTIPLE = 16;
/** Frame counts are one more than a multiple of this. */
export const FRAME_MULTIPLE = 4;

/**
 * Checks a clip's width and height; `name` begins the message.
 *
 * @throws {TilereelError} that names the nearest size that fits
 */
export function checkSize(width: number, height: number, name = "size"): void {
  if ([width, height].every((side) => Number.isInteger(side) && side > 0 && side % SIZE_MULTIPLE === 0)) return;
  const near = [width, height].map((side) => Math.max(1, Math.round(side / SIZE_MULTIPLE)) * SIZE_MULTIPLE);
  throw new TilereelError(
    `${name} ${width}x${height} does not fit: both must be multiples of ${SIZE_MULTIPLE}; ` +
      `the nearest that fits is ${near.join("x")}`,
  );
}

/**
 * Checks a clip's frame count; `name` begins the message.
 *
 * @throws {TilereelError} that names the nearest counts that fit
 */
export function checkFrames(frames: number, name = "frames"): void {
  if (Number.isInteger(frames) && frames > 0 && frames % FRAME_MULTIPLE === 1) return;
  const below = Math.floor((frames - 1) / FRAME_MULTIPLE) * FRAME_MULTIPLE + 1;
  const near = [below, below + FRAME_MULTIPLE].filter((count) => count > 0);
  throw new TilereelError(
    `${name} ${frames} does not fit: it must be a multiple of ${FRAME_MULTIPLE} plus 1; ` +
      (near.length === 2 ? `the nearest that fit are ${near.join(" and ")}` : `the least is 1`),
  );
}
