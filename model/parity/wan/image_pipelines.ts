import { readStill } from "../../video/read/still.ts";
import { type Check, Checks, type ParityCase, References } from "../case.ts";
import { wholeRun } from "../pipeline.ts";

/**
 * Folders `tiny_wan_*_pipeline`: whole models of image to video, and clips from pictures, which are larger than the clips,
 * and embeddings to frames: the latents after each step, and the video.
 */
export const imagePipelines: ParityCase = {
  matches: /^tiny_wan_\w+_pipeline$/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(`${path}/reference.safetensors`);
    const names = (await Array.fromAsync(Deno.readDir(path), ({ name }) => name)).filter((name) => name === "last.png");
    const [lastImage] = await Promise.all(names.map((name) => readStill(`${path}/${name}`)));
    const guidanceLow = references.setting<number | null>("guidance_scale_2");
    const more = {
      ...{ image: await readStill(`${path}/first.png`), ...lastImage && { lastImage } },
      ...guidanceLow !== null && { guidanceLow },
      embeddings: {
        positive: await references.read("prompt_embeds"),
        negative: await references.read("negative_prompt_embeds"),
      },
    };
    for (const gpu of gpus) {
      yield* wholeRun(gpu, path, references, new Checks(path, gpu, references), "tinyWanImages", more);
    }
  },
};
