import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { type Grid, product, raster } from "../attention/grid.ts";

/**
 * The table of rotary position embedding for the grid that was used last; a head's channels are divided among the
 * grid's axes. It is on the GPU until it is disposed of.
 */
export class GridRope implements Disposable {
  readonly #owned: TensorOwner;
  #last: { readonly grid: string; readonly table: Tensor } | undefined;

  /**
   * @param dims the channels of a head that turn with frames, rows and columns, each even
   * @param theta the base of the frequencies
   */
  constructor(
    private readonly gpu: Gpu,
    private readonly dims: readonly [number, number, number],
    private readonly theta: number,
  ) {
    this.#owned = new TensorOwner(gpu);
  }

  /** [tokens, head dim / 2, 2]: see {@link ropeTable}. It is valid until another grid is asked for. */
  of(grid: Grid): Tensor {
    const id = grid.join();
    if (this.#last?.grid !== id) {
      const { gpu, dims, theta } = this, table = ropeTable(grid, dims, theta), tokens = product(grid);
      this[Symbol.dispose]();
      this.#last = { grid: id, table: this.#owned.adopt(gpu.upload(table, [tokens, table.length / tokens / 2, 2])) };
    }
    return this.#last!.table;
  }

  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
    this.#last = undefined;
  }
}

/**
 * Cosine and sine for each pair of a head's channels, at each token.
 *
 * @param dims the channels of each axis
 * @returns [frames · rows · columns, sum of dims / 2, 2]
 */
export function ropeTable(
  grid: Grid,
  dims: readonly [number, number, number],
  theta: number,
): Float32Array<ArrayBuffer> {
  const axes = dims.map((dim, axis) => axisTable(dim, grid[axis]!, theta));
  const table = new Float32Array(product(grid) * dims.reduce((sum, dim) => sum + dim));
  let at = 0;
  for (const place of raster(grid)) {
    for (const [axis, position] of place.entries()) {
      table.set(axes[axis]![position]!, at);
      at += axes[axis]![position]!.length;
    }
  }
  return table;
}

/** For each position: cos and sin of `dim / 2` pairs. */
function axisTable(dim: number, length: number, theta: number): Float32Array[] {
  return Array.from({ length }, (_, position) => {
    const row = new Float32Array(dim);
    for (let i = 0; i < dim; i += 2) {
      const angle = position / theta ** (i / dim);
      row[i] = Math.cos(angle);
      row[i + 1] = Math.sin(angle);
    }
    return row;
  });
}
