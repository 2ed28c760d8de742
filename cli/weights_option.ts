/**
 * `--weights`, of the commands that render.
 *
 * @module
 */
import type { WeightsChoice, WeightsPlacement } from "../model/wan/weights_place.ts";
import { choice } from "./options.ts";

const CHOICES = ["auto", "resident", "stream"] as const satisfies readonly WeightsChoice[];

/** See the module. */
export const weightsOption = choice({
  group: "Model",
  of: CHOICES,
  help:
    "Where the transformer's weights lie: all on the GPU, or on disk, from where block after block is uploaded while " +
    "the one before computes. auto: on the GPU where weights and clip fit --memory, or 8 GB where that is not given.",
  default: "auto",
});

/** The line that says that weights are streamed, and why; nothing where they lie on the GPU as one would expect. */
export function weightsLine({ place, why }: WeightsPlacement): string | undefined {
  return place === "stream" ? `Weights are streamed from disk, block by block: ${why}.` : undefined;
}
