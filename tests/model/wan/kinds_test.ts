/** What a folder's index says of Wan's kinds. */
import { assertEquals, assertRejects } from "@std/assert";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { openModel, openModelFolder } from "../../../model/checkpoint/model_folder.ts";
import { BrokenModel } from "../../broken_model.ts";
import { inTempDir } from "../../process.ts";

const FIXTURES = new URL("../../fixtures/", import.meta.url).pathname;

Deno.test("kinds of Wan have names, parts, defaults and sizes of their own", async () => {
  const kinds = await Promise.all(["i2v", "a14b", "ti2v"].map(async (name) => {
    const { family, generation } = await openModelFolder(`${FIXTURES}tiny_wan_${name}_pipeline`);
    const { width, height, frames, fps, steps, guidance, guidanceLow } = generation;
    return {
      ...{ name: family.name, images: family.images, side: family.multiples.side },
      parts: Object.keys(family.parts).slice(5),
      defaults: [width, height, frames, fps, steps, guidance, guidanceLow],
    };
  }));
  assertEquals(kinds, [
    {
      ...{ name: "Wan 2.1 I2V", images: { image: "required", lastImage: "none" }, side: 16, parts: ["image_encoder"] },
      defaults: [832, 480, 81, 16, 40, 5, undefined],
    },
    {
      ...{ name: "Wan 2.2 I2V A14B", images: { image: "required", lastImage: "optional" }, side: 16 },
      ...{ parts: ["transformer_2"], defaults: [832, 480, 81, 16, 40, 3.5, 3.5] },
    },
    {
      ...{ name: "Wan 2.2 TI2V 5B", images: { image: "required", lastImage: "none" }, side: 32, parts: [] },
      defaults: [1280, 704, 121, 24, 50, 5, undefined],
    },
  ]);
});

Deno.test("kinds of Wan by their index", () =>
  inTempDir(async (dir) => {
    const transformer_2 = ["diffusers", "WanTransformer3DModel"], i2v = { _class_name: "WanImageToVideoPipeline" };
    const low = { transformer_2, boundary_ratio: 0.875 };
    for (
      const [keys, name, images] of [
        [{}, "Wan 2.1", undefined],
        [low, "Wan 2.2 T2V A14B", undefined],
        [{ expand_timesteps: true }, "Wan 2.2 TI2V 5B", { image: "optional", lastImage: "none" }],
        [{ expand_timesteps: true, _class_name: "WanDMDPipeline" }, "FastWan 2.2 5B", undefined],
        [{ ...i2v, image_encoder: ["transformers", "CLIPVisionModel"] }, "Wan 2.1 I2V", {
          image: "required",
          lastImage: "none",
        }],
      ] as const
    ) {
      const model = await BrokenModel.make(await Deno.makeTempDir({ dir }));
      for (const part of ["transformer_2", "image_encoder"]) await Deno.mkdir(`${model.path}/${part}`);
      await model.set("model_index.json", keys);
      const { family } = await openModelFolder(model.path);
      assertEquals([family.name, family.images], [name, images]);
    }
    const model = await BrokenModel.make(await Deno.makeTempDir({ dir }));
    await model.set("model_index.json", low);
    await assertRejects(
      () => openModel(model.path),
      TilereelError,
      "has no folder transformer_2, which a model of Wan 2.2 T2V A14B needs",
    );
    await model.set("model_index.json", { ...i2v, transformer_2: [null, null], boundary_ratio: null });
    await model.set("transformer/config.json", { pos_embed_seq_len: 514 });
    await assertRejects(() => openModel(model.path), TilereelError, "which a model of Wan 2.1 FLF2V needs");
  }));
