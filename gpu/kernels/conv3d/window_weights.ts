/**
 * The weights of a convolution in the order in which `window.ts` stages them, in f16: for each tile of output channels,
 * frame of the kernel, group of input channels and group of taps, one contiguous block. What a tile or a group has
 * beyond the channels is 0.
 *
 * @module
 */
import { f32 } from "../../formats/f32.ts";
import { type KernelSource, read, u32s, write } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { perElement } from "../per_element.ts";
import { stagedPosition } from "../product/matrix.ts";
import { type WindowBy, windowSizes } from "./window.ts";

const { element, read: readEight, halves } = f32.read.eight;

/** The shape of packed weights [out, kernel frames, 3, 3, in]: blocks, each with its rows of numbers. */
export function windowWeightsShape(by: WindowBy, [out, frames, , , cin]: readonly number[]): readonly number[] {
  const { channels, eights, weights } = windowSizes(by);
  const blocks = Math.ceil(out! / channels) * frames! * Math.ceil(cin! / 8 / eights) * 9 / by.tile.taps;
  return [blocks, weights, 8 * eights];
}

/** Packs weights that are f32, [out, kernel frames, 3, 3, in]. A thread converts eight numbers. */
export const packWindowWeights = memo((by: WindowBy): KernelSource => {
  const { channels, eights, weights } = windowSizes(by), { taps } = by.tile;
  const [row, place] = stagedPosition(eights, `(i % ${weights * eights}u)`);
  return perElement({
    name: `conv3d_pack_weights_${channels}_${eights}_${taps}`,
    buffers: { x: read(element), y: write("vec4u") },
    params: u32s("out", "frames", "eights"),
    declarations: halves("halves"),
    body: `  var block = i / ${weights * eights}u;
  let groups = (p.eights + ${eights - 1}u) / ${eights}u;
  let row = ${row};
  let tap = block % ${9 / taps}u * ${taps}u + row / ${channels}u;
  block /= ${9 / taps}u;
  let eight = block % groups * ${eights}u + ${place};
  block /= groups;
  let frame = block % p.frames;
  let n = block / p.frames * ${channels}u + row % ${channels}u;
  var made = vec4u();
  if (n < p.out && eight < p.eights) {
    made = halves(${readEight("x", "((n * p.frames + frame) * 9u + tap) * p.eights + eight")});
  }
  y[i] = made;`,
  });
});
