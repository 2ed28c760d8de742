/**
 * `--weights` and `--weight-dtype`, of the commands that load a model.
 *
 * @module
 */
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import { castText, WEIGHT_DTYPE_CHOICES } from "../../model/weight_dtype.ts";
import { WEIGHTS_CHOICES, type WeightsPlacement } from "../../model/blocks/weights_place.ts";
import { choice } from "./options.ts";

/** --weights. */
export const weightsOption = choice({
  group: "Model",
  choices: WEIGHTS_CHOICES,
  help:
    "Where the transformer's weights lie: all on the GPU, or on disk, from where block after block is uploaded while " +
    "the one before computes. auto: on the GPU where weights and clip fit --memory, or 8 GB where that is not given.",
  default: "auto",
});

/** --weight-dtype. */
export const weightDtypeOption = choice({
  group: "Model",
  choices: WEIGHT_DTYPE_CHOICES,
  help:
    "Number format in which the GPU holds the matrices of transformer and text encoder. auto: as they are stored, but " +
    "F32 as f16 where --precision is f16, which multiplies the same numbers from half the memory; stored: as they are " +
    "stored; f16, bf16: all cast while loading, rounded to nearest.",
  elsewhere: ["weights-dtype", "weight-type"],
  default: "auto",
});

/** The line that says that weights are streamed, and why, or cast; nothing where they are as one would expect. */
export function weightsLine(placement: WeightsPlacement): string | undefined {
  const { place, why, bytes } = placement, text = castText(placement);
  const formats = `${text}, ${formatBytes(bytes)} on the GPU`;
  if (place === "stream") return `Weights are streamed from disk, block by block: ${why}; ${formats}.`;
  return text.includes("cast") ? `Weights are ${formats}.` : undefined;
}
