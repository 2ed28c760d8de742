import { CLIP_VISION_WEIGHTS } from "../../clip/vision/weights.ts";
import { readClipVisionConfig } from "../../clip/vision/config.ts";
import { ClipVisionEncoder } from "../../clip/vision/encoder.ts";
import { openPart } from "../../checkpoint/open_part.ts";
import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import { BOUNDS } from "../bounds.ts";
import { type Check, Checks, type ParityCase, References } from "../case.ts";

/** Folders `tiny_clip_vision*`: the tokens of a picture, after the last layer but one. */
export const tinyClipVision: ParityCase = {
  matches: /^tiny_clip_vision/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(`${path}/reference.safetensors`);
    const config = await readClipVisionConfig(`${path}/config.json`);
    for (const gpu of gpus) {
      using encoder = new ClipVisionEncoder(gpu, config, await openPart(path, CLIP_VISION_WEIGHTS));
      using owned = new TensorOwner(gpu);
      const pixels = owned.adopt(await references.upload(gpu, "pixel_values"));
      const tokens = owned.adopt(await encoder.encode(pixels));
      yield* new Checks(path, gpu, references).rows("hidden_states.-2", BOUNDS.tinyClipVision, tokens);
    }
  },
};
