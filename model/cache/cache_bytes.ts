/**
 * The memory of a step cache.
 *
 * @module
 */
import { product } from "../attention/grid.ts";
import type { FamilyModel } from "../family.ts";
import type { ClipSize } from "../video_size.ts";
import type { StepCache } from "./step_cache.ts";

/** The most bytes that a cache holds while a clip is denoised, which is beside `FamilyModel.denoisingBytes`. */
export function cacheBytes(
  cache: StepCache | undefined,
  model: Pick<FamilyModel, "shape" | "layout" | "passes">,
  clip: ClipSize,
  guidance: number,
): number {
  if (!cache) return 0;
  const { shape } = model, { grid, kept } = model.layout(clip);
  const tensor = 4 * (product(grid) + kept) * shape.heads * shape.headDim;
  return model.passes(guidance).length * cache.tensors(shape) * tensor;
}
