import { TilereelError } from "../../gpu/common/errors.ts";
import type { ClipSize } from "../video_size.ts";
import type { LatentSpace } from "./autoencoder.ts";

/** The shape of a clip's latents, [1, channels, frames, height, width]. */
export function latentShapeOf(
  { zDim, spatialScale, temporalScale }: LatentSpace,
  { width, height, frames }: ClipSize,
): readonly number[] {
  return [1, zDim, (frames - 1) / temporalScale + 1, height / spatialScale, width / spatialScale];
}

/**
 * Checks that a transformer takes and gives the autoencoder's latents.
 *
 * @param path the model's
 * @param others channels that it takes beside those of the latents
 * @throws {TilereelError} if it does not
 */
export function checkLatentChannels(
  path: string,
  { inChannels, outChannels }: { readonly inChannels: number; readonly outChannels: number },
  { zDim }: LatentSpace,
  others = 0,
): void {
  if (inChannels === zDim + others && outChannels === zDim) return;
  throw new TilereelError(
    `${path}: the transformer takes ${inChannels} and gives ${outChannels} latent channels, but the VAE has ${zDim}` +
      `${others > 0 ? `, and ${others} more are those of a picture` : ""}; they belong to different models`,
  );
}
