import type { Gpu } from "../../gpu/gpu.ts";
import { zeros } from "../../gpu/ops/elementwise.ts";
import { cutWindow, type Window } from "../../gpu/ops/frames.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** A clip to encode that has pictures at some frames, and is 0 (grey) at all others, which take no memory. */
export interface StillClip {
  /** [1, 3, frames, height, width] */
  readonly shape: readonly number[];
  /** By their frames: [3, 1, height, width], f32, within −1…1 */
  readonly pictures: ReadonlyMap<number, Tensor>;
}

/** As `cutWindow` of the whole clip. */
export function cutStill(gpu: Gpu, { pictures }: StillClip, window: Window): Tensor {
  const { frame, frames, height, width } = window, y = zeros(gpu, [frames, height, width, 4]);
  for (const [at, picture] of pictures) {
    if (at < frame || at >= frame + frames) continue;
    gpu.scope(() => gpu.copy(cutWindow(gpu, picture, { ...window, frame: 0, frames: 1 }), y.slice(at - frame, 1)));
  }
  return y;
}
