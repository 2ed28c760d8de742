/**
 * Rotary position embedding over a video. A head's channels are divided among frames, rows and columns.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Grid } from "../attention/grid.ts";
import type { TransformerConfig } from "./config.ts";

const THETA = 10000;

/**
 * Cosine and sine for each pair of a head's channels, at each token.
 *
 * @returns [frames · rows · columns, head dim / 2, 2]
 * @throws {TilereelError} if the grid is longer than the model's number of positions
 */
export function ropeTable(
  { headDim, ropeMaxSeqLen }: Pick<TransformerConfig, "headDim" | "ropeMaxSeqLen">,
  grid: Grid,
): Float32Array<ArrayBuffer> {
  const longest = Math.max(...grid);
  if (longest > ropeMaxSeqLen) {
    throw new TilereelError(
      `a clip of ${grid.join(" × ")} tokens is too long: this model knows ${ropeMaxSeqLen} positions an axis; ` +
        `use a smaller size or fewer frames`,
    );
  }
  // Rows and columns get a third of the channels each, rounded down to pairs; frames get the rest.
  const space = 2 * Math.floor(headDim / 6), time = headDim - 2 * space;
  const axes = [time, space, space].map((dim, axis) => axisTable(dim, grid[axis]!));
  const [frames, rows, columns] = grid;
  const table = new Float32Array(frames * rows * columns * headDim);
  let at = 0;
  for (let f = 0; f < frames; f++) {
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        for (const [axis, position] of [f, r, c].entries()) {
          table.set(axes[axis]![position]!, at);
          at += axes[axis]![position]!.length;
        }
      }
    }
  }
  return table;
}

/** For each position: cos and sin of `dim / 2` pairs. */
function axisTable(dim: number, length: number): Float32Array[] {
  return Array.from({ length }, (_, position) => {
    const row = new Float32Array(dim);
    for (let i = 0; i < dim; i += 2) {
      const angle = position / THETA ** (i / dim);
      row[i] = Math.cos(angle);
      row[i + 1] = Math.sin(angle);
    }
    return row;
  });
}
