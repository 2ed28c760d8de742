import { validTokens } from "./layout.ts";
import type { AttentionTask } from "./method.ts";

/** The report of a clip's self-attention, given when its denoising is done. */
export interface AttentionReport {
  /**
   * The multiplied pairs of queries and keys, as a share of full attention's, over all steps, layers and heads. What a
   * step cache left out counts as none. It is exact except for Veda over grids with partial tiles: only the GPU knows
   * which tiles are kept, so they count with the mean size.
   */
  readonly density: number;
  /** How many steps and layers had full attention, as was asked for; `density` counts them. For Veda, also none. */
  readonly dense?: { readonly steps: number; readonly layers: number };
  /** A clause that says why nothing was left out, where a sparse method has a density of 1. */
  readonly whyFull?: string;
  /** For routed attention: each head's branch, an index into `BRANCHES` (vorta/branch.ts), [steps][layers][heads]. */
  readonly routes?: readonly (readonly Uint8Array[])[];
}

/** Whether the self-attention of a layer was run in a pass of a step. */
export type RanAttention = (step: number, pass: number, layer: number) => boolean;

/**
 * The density of a task.
 *
 * @param pairs the number of pairs of queries and keys that a head multiplies
 * @param ran which attention was run. Default: all
 */
export function densityOf(
  { shape, layout, lengths, timesteps }: Pick<AttentionTask, "shape" | "layout" | "lengths" | "timesteps">,
  pairs: (step: number, pass: number, layer: number, head: number) => number,
  ran: RanAttention = () => true,
): number {
  let multiplied = 0, all = 0;
  for (const [pass, length] of lengths.entries()) {
    all += timesteps.length * shape.layers * shape.heads * validTokens({ ...layout, length }) ** 2;
    for (let step = 0; step < timesteps.length; step++) {
      for (let layer = 0; layer < shape.layers; layer++) {
        if (!ran(step, pass, layer)) continue;
        for (let head = 0; head < shape.heads; head++) multiplied += pairs(step, pass, layer, head);
      }
    }
  }
  return multiplied / all;
}

/** The clause that says why nothing was left out where all steps were asked to have full attention. */
export function whyStepsFull(denseSteps: number, steps: number): string {
  const first = denseSteps === 1 ? "step is" : `${denseSteps} steps are`;
  return `the first ${first} dense, and the clip has only ${steps}`;
}
