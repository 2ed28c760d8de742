/**
 * Tile patterns by layout and shape, and the heads of each layer that share one. For work on several layouts.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { uploadHeadLists } from "../attention/head_lists.ts";
import type { TokenLayout } from "../attention/layout.ts";
import { TilePattern } from "./tile_pattern.ts";
import type { TileShape, TileShapes } from "./tile_shapes.ts";

/** A cache of patterns. They are held until it is disposed of. */
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

/** Heads of a layer that share a shape. */
export interface HeadGroup {
  readonly shape: TileShape;
  /** In ascending order. */
  readonly heads: readonly number[];
  /** [heads], u32; undefined if they are all heads of the layer */
  readonly only: Tensor | undefined;
}

/** The groups of all layers under a plan, on the GPU until they are disposed of. */
export class HeadGroups implements Disposable {
  /** By layer. */
  readonly layers: readonly (readonly HeadGroup[])[];
  readonly #lists: Tensor;

  constructor(private readonly gpu: Gpu, { shapes, choices }: TileShapes) {
    const layers = choices.map((choice) =>
      [...shapes.entries()].map(([i, shape]) => ({
        shape,
        heads: [...choice.keys()].filter((head) => choice[head] === i),
      })).filter(({ heads }) => heads.length > 0)
    );
    const lists = uploadHeadLists(gpu, layers.flatMap((groups) => groups.map(({ heads }) => heads)));
    // All lists are in one buffer.
    this.#lists = gpu.keep(lists[0]!);
    let at = 0;
    this.layers = layers.map((groups) =>
      groups.map((group) => {
        const only = lists[at++];
        return { ...group, only: groups.length > 1 ? only : undefined };
      })
    );
  }

  [Symbol.dispose](): void {
    this.gpu.release(this.#lists);
  }
}
