import { writeRandomCheckpoint } from "../../../bench/full_size/checkpoint.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import { openSafetensors, readFloat32 } from "../../../model/checkpoint/safetensors.ts";
import { VideoPipeline } from "../../../model/pipeline.ts";
import { TinyAutoencoder } from "../../../model/taehv/autoencoder.ts";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { assertClose, randn, testOnGpu, testVariants } from "../../gpu.ts";
import { inTempDir } from "../../process.ts";

const FOLDER = new URL("../../fixtures/tiny_taehv/", import.meta.url).pathname;

/** Of Wan 2.1 and of Wan 2.2 5B: channels of latents, and pixels along their edge. */
const KINDS = { a: { zDim: 16, spatialScale: 8 }, b: { zDim: 48, spatialScale: 16 } } as const;

async function load(gpu: Gpu, kind: keyof typeof KINDS): Promise<TinyAutoencoder> {
  using source = await openCheckpoint(`${FOLDER}${kind}.safetensors`, "");
  const { zDim, spatialScale } = KINDS[kind], other = Array(zDim).fill(5); // means and deviations are not used
  const space = { zDim, spatialScale, outChannels: 3, temporalScale: 4, latentsMean: other, latentsStd: other };
  return await TinyAutoencoder.load(gpu, source, space, undefined, ["decoder"]);
}

async function reference(kind: keyof typeof KINDS) {
  using file = await openSafetensors(`${FOLDER}${kind}_reference.safetensors`);
  const tensor = async (name: string) => ({ data: await readFloat32(file, name), shape: file.info(name).shape });
  return { latents: await tensor("latents"), video: await tensor("video") };
}

for (const kind of ["a", "b"] as const) {
  testVariants(`TAEHV ${kind} decodes as its author's code, whatever the pieces`, async ({ gpu, name }) => {
    using vae = await load(gpu, kind);
    const { latents, video } = await reference(kind);
    const x = gpu.upload(latents.data, latents.shape), same = vae.denormalize(x);
    assertEquals(await gpu.read(same), latents.data);
    for (const pieceBytes of [2 ** 28, 20_000]) {
      const decoded = await vae.decode(x, { pieceBytes });
      assertEquals(decoded.shape, video.shape);
      assertClose(await gpu.read(decoded), video.data, name.endsWith("f16") ? 4e-3 : 4e-6, `${pieceBytes}`);
      gpu.release(decoded);
    }
    for (const tensor of [x, same]) gpu.release(tensor);
  });
}

testOnGpu(
  "a tiny autoencoder decodes a model's clips in place of its own, and does not encode",
  (gpu) =>
    inTempDir(async (dir) => {
      await writeRandomCheckpoint(dir, {
        transformer: { num_attention_heads: 1, num_layers: 1, ffn_dim: 64, text_dim: 48, cross_attn_norm: true },
        vae: { base_dim: 8, num_res_blocks: 1 },
      });
      const sample = async (vae?: string) => {
        const pipeline = await VideoPipeline.load(dir, { gpu, ...vae !== undefined && { parts: { vae } } });
        const clip = { width: 32, height: 48, frames: 9, steps: 1, guidance: 1 };
        const { data, ...size } = await pipeline.generate({
          ...{ prompt: "", ...clip },
          embeddings: { positive: randn(5 * 48, 1) },
        });
        pipeline.close();
        assertEquals(data.length, 9 * 48 * 32 * 3, JSON.stringify(size));
        return data;
      };
      const own = await sample(), tiny = await sample(`${FOLDER}a.safetensors`);
      assert(new Set(tiny).size > 50 && tiny.some((value, i) => value !== own[i]));
      await assertRejects(
        () => sample(`${FOLDER}b.safetensors`),
        TilereelError,
        "decodes latents of 48 channels to 16 times their size, but the model's have 16 channels and 8 times; use the",
      );
      using source = await openCheckpoint(`${FOLDER}a.safetensors`, "");
      const space = { ...KINDS.a, outChannels: 3, temporalScale: 4, latentsMean: [], latentsStd: [] };
      await assertRejects(
        () => TinyAutoencoder.load(gpu, source, space, undefined, ["encoder"]),
        TilereelError,
        "is a tiny autoencoder, with which tilereel only decodes; use the model's own VAE to encode pictures",
      );
    }),
);
