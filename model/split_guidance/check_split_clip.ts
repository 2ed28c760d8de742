import { TilereelError } from "../../gpu/common/errors.ts";
import { partsOf } from "../conditioning.ts";
import type { FamilyModel } from "../family.ts";
import { checkClip } from "../video_size.ts";
import type { SplitClip } from "./partner.ts";

/** What is known of a model before its transformer is loaded. */
type KnownModel = Pick<FamilyModel, "family" | "latentShape" | "textDim" | "pooledDim">;

/** The most steps, text tokens and latents of a clip: more than any model takes. */
const MOST_STEPS = 1000, MOST_TEXT = 16384, MOST_LATENTS = 2 ** 28;

/**
 * Checks that what comes from elsewhere is a clip of the model. The data of its conditioning may still be missing.
 *
 * @throws {TilereelError} if it is not
 */
export function checkSplitClip(model: KnownModel, clip: SplitClip): void {
  const { size, shape, lengths, timesteps, sigmas, conditioning } = clip;
  checkClip(model.family.multiples, size);
  const own = model.latentShape(size), [, channels, ...volume] = own;
  check(own.reduce((a, b) => a * b, 1) <= MOST_LATENTS && shape.join() === own.join(), "the latents");
  check(lengths.length === 2 && lengths.every((length) => isCount(length, 0, MOST_TEXT)), "the lengths");
  check(
    isCount(timesteps.length, 1, MOST_STEPS) && timesteps.every((time) => time >= 0 && time <= 1000),
    "the timesteps",
  );
  check(
    sigmas.length === timesteps.length + 1 && sigmas.every((sigma) => sigma >= 0 && sigma <= 1),
    "the noise levels",
  );
  const { tensors, numbers } = partsOf(conditioning), { text, pooled, image, ...more } = tensors;
  const tokens = text?.shape[1];
  check(isCount(tokens, 1, MOST_TEXT) && text!.shape.join() === `1,${tokens},${model.textDim}`, "the text embeddings");
  check(
    pooled?.shape.join() === (model.pooledDim === undefined ? undefined : `1,${model.pooledDim}`),
    "the embeddings",
  );
  const takesPictures = model.family.images !== undefined;
  check(!image || takesPictures && image.shape.length === 3 && image.shape[0] === 1, "the image tokens");
  for (const [name, { shape: [batch, depth, frames, ...sides] }] of Object.entries(more)) {
    const fits = batch === 1 && sides.join() === volume.slice(1).join() &&
      (name === "channels"
        ? frames === volume[0] && isCount(depth, 1, 64)
        : name === "frames" && depth === channels && isCount(frames, 1, volume[0]!));
    check(takesPictures && fits, "the pictures");
  }
  for (const [name, number] of Object.entries(numbers)) {
    check(
      name === "textLength" ? isCount(number, 0, tokens!) : name === "guidance" && Number.isFinite(number),
      "the numbers",
    );
  }
}

/** @throws {TilereelError} if something does not fit */
export function check(fits: boolean, what: string): void {
  if (!fits) throw new TilereelError(`${what} of the request do not fit a clip of this model; use the same tilereel`);
}

function isCount(value: number | undefined, least: number, most: number): boolean {
  return Number.isInteger(value) && value! >= least && value! <= most;
}
