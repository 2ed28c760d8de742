import { product } from "../attention/grid.ts";
import type { FamilyModel } from "../family.ts";
import type { ClipSize } from "../video_size.ts";
import { type ClipWork, NARROW, NUMBER_BYTES, TENSORS } from "./clip_time.ts";
import { blockWork } from "./training_time.ts";

/** The feed-forward is so many times as wide as a token. */
const FEED_FORWARD = 4;

/**
 * The work of a model's clip, from the sizes of its weights.
 *
 * @param density the share of self-attention that is computed
 */
export function workOf(
  model: Pick<FamilyModel, "layout" | "passes" | "weights" | "shape">,
  clip: ClipSize & { readonly steps: number; readonly guidance: number },
  density: number,
): ClipWork {
  const { grid, kept } = model.layout(clip), tokens = product(grid) + kept;
  const { linear, attention, layers, dim } = blockWork(model, tokens);
  const blocks = clip.steps * model.passes(clip.guidance).length * layers;
  return {
    linear: blocks * linear,
    attention: blocks * attention,
    density,
    bytes: blocks * tokens * NUMBER_BYTES * (TENSORS + 2 * FEED_FORWARD) * dim,
    pixels: clip.width * clip.height * clip.frames,
    width: dim > NARROW ? "wide" : "narrow",
  };
}
