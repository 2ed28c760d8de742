import { averageDown, type BlockChannels, type BlockSize, repeatUp } from "../../../gpu/ops/channel_blocks.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import type { Pass } from "../../vae/feature_cache.ts";
import type { Layer } from "../../vae/layers.ts";

/** The way round a stage of Wan 2.2's VAE: the stage's input is added to its output. It has no weights. */
export interface Shortcut {
  /** The sum. Output and input stay the caller's. */
  add(pass: Pass, output: Tensor, input: Tensor): Tensor;
}

/** diffusers' `AvgDown3D`: means of groups of the channels that blocks of pixels and frames are. */
export function downShortcut(size: BlockSize, channels: BlockChannels): Shortcut {
  return { add: ({ gpu }, output, input) => averageDown(gpu, input, output, size, channels) };
}

/** diffusers' `DupUp3D`: channels are repeated, and become blocks of pixels and frames. */
export function upShortcut(size: BlockSize, channels: BlockChannels): Shortcut {
  // A clip's first frame stays one.
  return {
    add: ({ gpu, first }, output, input) => repeatUp(gpu, input, output, size, channels, first ? size.time - 1 : 0),
  };
}

/** Layers with a shortcut round them. */
export class Bridged implements Layer {
  constructor(private readonly layers: readonly Layer[], private readonly shortcut: Shortcut) {}

  forward(pass: Pass, x: Tensor): Tensor {
    const { gpu } = pass, output = runAll(pass, this.layers, x), y = this.shortcut.add(pass, output, x);
    gpu.release(output);
    return y;
  }
}

/** Runs layers one behind the other, and frees what lies between, but not `x`. */
function runAll(pass: Pass, layers: readonly Layer[], x: Tensor): Tensor {
  let y = x;
  for (const layer of layers) {
    const next = layer.forward(pass, y);
    if (y !== x) pass.gpu.release(y);
    y = next;
  }
  return y;
}
