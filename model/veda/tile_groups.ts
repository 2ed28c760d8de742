import type { Gpu } from "../../gpu/gpu.ts";
import type { TensorOwner } from "../../gpu/tensor_owner.ts";
import { groupHeads, type HeadGroup } from "../attention/head_groups.ts";
import type { TokenLayout } from "../attention/layout.ts";
import { TilePattern } from "./tile_pattern.ts";
import type { TileShape, TileShapes } from "./tile_shapes.ts";

/** Tile patterns by layout and shape, for work on several layouts. They are held until this is disposed of. */
export class TilePatterns implements Disposable {
  readonly #made = new Map<string, TilePattern>();

  /** @param keep the share of tiles that patterns keep */
  constructor(
    private readonly gpu: Gpu,
    private readonly config: { readonly heads: number; readonly headDim: number },
    private readonly keep: number,
  ) {}

  /** The pattern of a layout whose grid is cut into tiles of one shape. */
  of(layout: TokenLayout, shape: TileShape): TilePattern {
    const id = `${layout.grid} ${layout.kept} ${layout.length} ${shape}`;
    let pattern = this.#made.get(id);
    if (!pattern) this.#made.set(id, pattern = new TilePattern(this.gpu, this.config, layout, shape, this.keep));
    return pattern;
  }

  [Symbol.dispose](): void {
    for (const pattern of this.#made.values()) pattern[Symbol.dispose]();
    this.#made.clear();
  }
}

/** Groups the heads of each layer by shape. The owner gets the tensors. */
export function headsByShape(owner: TensorOwner, { shapes, choices }: TileShapes): HeadGroup<TileShape>[][] {
  const every = choices.map((choice) => [...choice.keys()]);
  const groups = groupHeads(owner.gpu, every, (layer, head) => shapes[choices[layer]![head]!]!);
  owner.adopt(groups.flat().map(({ only }) => only));
  return groups;
}
