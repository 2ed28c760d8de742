import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import { openModel } from "../../checkpoint/model_folder.ts";
import { BOUNDS } from "../bounds.ts";
import { type Check, Checks, type ParityCase, References } from "../case.ts";
import { wholeRun } from "../pipeline.ts";

/**
 * Folders `tiny_hunyuan_pipeline*`: a whole model of its own, and a clip from its prompt to its frames: the embeddings of
 * both text encoders, the latents after each step, and the video.
 */
export const hunyuanPipeline: ParityCase = {
  matches: /^tiny_hunyuan_pipeline/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(`${path}/reference.safetensors`);
    using model = await openModel(path);
    const mask = await references.read("prompt_attention_mask"), valid = mask.filter((one) => one !== 0).length;
    for (const gpu of gpus) {
      const check = new Checks(path, gpu, references);
      using owned = new TensorOwner(gpu);
      using encoder = model.promptEncoder(gpu, {});
      const tokens = references.setting<number>("max_sequence_length");
      const [made] = await encoder.encode([references.setting("prompt")], tokens);
      const { text, pooled, textLength } = made!;
      owned.adopt([text, pooled!]);
      yield check.differing("text tokens", Math.abs(textLength! - valid));
      yield* check.rows("prompt_embeds", BOUNDS.tinyLlama, text);
      yield* check.rows("pooled_prompt_embeds", BOUNDS.tinyClipText, pooled!);
      yield* wholeRun(gpu, path, references, check, "tinyHunyuan");
    }
  },
};
