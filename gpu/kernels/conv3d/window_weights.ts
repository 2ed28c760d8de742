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
  const { channels, eights, weights, groups, phases, framePhases } = windowSizes(by);
  const kernelFrames = by.upTime === 2 ? 2 : frames!;
  const blocks = framePhases * phases * Math.ceil(out! / channels) * kernelFrames * Math.ceil(cin! / 8 / eights) *
    groups;
  return [blocks, weights, 8 * eights];
}

/**
 * WGSL: the first and the last of three taps that a phase's tap is the sum of. An even position sees the number before
 * and twice its own; an odd one twice its own and the one behind.
 */
const TAPS_OF_PHASE = `
fn first_tap(phase: u32, tap: u32) -> u32 { return select(tap, 2u * tap, phase == 1u); }
fn last_tap(phase: u32, tap: u32) -> u32 { return select(2u * tap, tap + 1u, phase == 1u); }`;

/** Packs weights that are f32, [out, kernel frames, 3, 3, in]. A thread converts eight numbers. */
export const packWindowWeights = memo((by: WindowBy): KernelSource => {
  const { up, upTime } = by, { channels, eights, weights, side, taps, groups, phases } = windowSizes(by);
  const [row, place] = stagedPosition(eights, `(i % ${weights * eights}u)`);
  const range = (name: string, many: boolean, phase: string, tap: string) =>
    `for (var ${name} = ${many ? `first_tap(${phase}, ${tap})` : tap}; ${name} <= ${
      many ? `last_tap(${phase}, ${tap})` : tap
    }; ${name}++)`;
  return perElement({
    name: `conv3d_pack_weights_${channels}_${eights}_${taps}_${up}_${upTime}`,
    buffers: { x: read(element), y: write("vec4u") },
    params: u32s("out", "frames", "eights"),
    declarations: halves("halves") + TAPS_OF_PHASE,
    body: `  var block = i / ${weights * eights}u;
  let blocks = (p.eights + ${eights - 1}u) / ${eights}u;
  let row = ${row};
  let tap = block % ${groups}u * ${taps}u + row / ${channels}u;
  block /= ${groups}u;
  let eight = block % blocks * ${eights}u + ${place};
  block /= blocks;
  let frames = ${upTime === 2 ? "2u" : "p.frames"};
  let frame = block % frames;
  block /= frames;
  let tiles = (p.out + ${channels - 1}u) / ${channels}u;
  let n = block % tiles * ${channels}u + row % ${channels}u;
  block /= tiles;
  let phase = block % ${phases}u;
  let frame_phase = block / ${phases}u;
  var made = vec4u();
  if (n < p.out && eight < p.eights) {
    var sum = mat2x4f();
    ${range("dt", upTime === 2, "frame_phase", "frame")} {
      ${range("dy", up === 2, `phase / ${up}u`, `(tap / ${side}u)`)} {
        ${range("dx", up === 2, `phase % ${up}u`, `(tap % ${side}u)`)} {
          sum += ${readEight("x", "((n * p.frames + dt) * 9u + dy * 3u + dx) * p.eights + eight")};
        }
      }
    }
    made = halves(sum);
  }
  y[i] = made;`,
  });
});
