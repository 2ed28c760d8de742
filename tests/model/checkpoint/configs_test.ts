import { readUmt5Config } from "../../../model/umt5/config.ts";
import { readVaeConfig } from "../../../model/wan/vae/config.ts";
import { readTransformerConfig } from "../../../model/wan/config.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { assertEquals, assertRejects } from "@std/assert";

const FIXTURES = new URL("../../fixtures/", import.meta.url).pathname;
const DEMO = new URL("../../../model/demo/", import.meta.url).pathname;

/** What `read` makes of a config file that holds `value`. */
async function from<T>(read: (path: string) => Promise<T>, value: unknown): Promise<T> {
  const path = await Deno.makeTempFile({ suffix: ".json" });
  try {
    await Deno.writeTextFile(path, typeof value === "string" ? value : JSON.stringify(value));
    return await read(path);
  } finally {
    await Deno.remove(path);
  }
}

/** Asserts that each change to `base` is refused with its message. */
async function assertRefused(
  read: (path: string) => Promise<unknown>,
  base: Record<string, unknown>,
  changes: [Record<string, unknown>, string][],
): Promise<void> {
  await from(read, base);
  for (const [change, message] of changes) {
    await assertRejects(() => from(read, { ...base, ...change }), TilereelError, message);
  }
}

Deno.test("transformer: the demo, the fixtures and the 14B defaults", async () => {
  assertEquals(await readTransformerConfig(`${DEMO}transformer/config.json`), {
    patchSize: [1, 2, 2],
    heads: 8,
    headDim: 32,
    dim: 256,
    inChannels: 16,
    outChannels: 16,
    textDim: 128,
    freqDim: 256,
    ffnDim: 1024,
    layers: 8,
    crossAttention: true,
    crossAttnNorm: true,
    eps: 1e-6,
    ropeMaxSeqLen: 1024,
  });
  assertEquals((await readTransformerConfig(`${FIXTURES}tiny_hd128/config.json`)).headDim, 128);
  const wan14b = await from(readTransformerConfig, {});
  assertEquals([wan14b.layers, wan14b.dim, wan14b.ffnDim, wan14b.textDim], [40, 5120, 13824, 4096]);
  assertEquals((await from(readTransformerConfig, { in_channels: 8, out_channels: null })).outChannels, 8);
  assertEquals(wan14b.images, undefined);
  const i2v = { image_dim: 1280, added_kv_proj_dim: 5120, in_channels: 36, out_channels: 16 };
  assertEquals((await from(readTransformerConfig, i2v)).images, { dim: 1280 });
  const flf = await from(readTransformerConfig, { ...i2v, pos_embed_seq_len: 514 });
  assertEquals(flf.images, { dim: 1280, positions: 514 });
});

Deno.test("transformer: what is not supported is named", () =>
  assertRefused(readTransformerConfig, {}, [
    [{ _class_name: "WanVACETransformer3DModel" }, '_class_name "WanVACETransformer3DModel" is not supported'],
    [{ qk_norm: "layer_norm" }, 'qk_norm "layer_norm" is not supported; "rms_norm_across_heads" was expected'],
    [{ qk_norm: null }, "qk_norm null is not supported"],
    [{ image_dim: 1280, added_kv_proj_dim: 1280 }, "added_kv_proj_dim 1280 is not supported; 5120 was expected"],
    [{ image_dim: 1278, added_kv_proj_dim: 5120 }, "image_dim 1278 is not supported; 1280 was expected"],
    [
      { quantization_config: { quant_method: "bitsandbytes" } },
      'these weights are quantised ("bitsandbytes"), which is',
    ],
    [
      { quantization_config: true },
      "these weights are quantised (quantization_config), which is not supported; use the",
    ],
    [{ added_kv_proj_dim: 5120 }, "added_kv_proj_dim 5120"],
    [{ pos_embed_seq_len: 514 }, "pos_embed_seq_len 514"],
    [{ attention_head_dim: 96 }, "attention_head_dim 96 is not supported; 32 or 64 or 128 was expected"],
    [{ freq_dim: 255 }, "freq_dim 255"],
    [{ text_dim: 4094 }, "text_dim 4094 is not supported; 4096 was expected"],
    [{ ffn_dim: 130 }, "ffn_dim 130 is not supported; 132 was expected"],
    [{ in_channels: 3, patch_size: [1, 2, 1] }, "patch_size [1,2,1] is not supported"],
    [{ patch_size: [1, 2] }, "patch_size has 2 entries, but 3 were expected"],
    [{ patch_size: 2 }, "patch_size is 2, but a list"],
    [{ patch_size: [1, 0, 2] }, "patch_size is [1,0,2]"],
    [{ num_layers: "40" }, 'num_layers is "40", but a whole number from 1 to 1000 was expected'],
    [{ num_layers: 0 }, "num_layers is 0"],
    [{ num_attention_heads: 1.5 }, "num_attention_heads is 1.5"],
    [{ cross_attn_norm: "yes" }, 'cross_attn_norm is "yes", but true or false'],
    [{ eps: 0 }, "eps is 0, but a number above 0 was expected"],
  ]));

Deno.test("VAE: the demo, the fixture and the defaults", async () => {
  const demo = await readVaeConfig(`${DEMO}vae/config.json`);
  assertEquals([demo.baseDim, demo.decoderBaseDim, demo.numResBlocks], [16, 16, 2]);
  assertEquals([demo.spatialScale, demo.temporalScale], [8, 4]);
  assertEquals(demo.latentsMean[0], -0.31085);
  // The fixture spells out what are the defaults but for its size.
  const tiny = await readVaeConfig(`${FIXTURES}tiny_vae/config.json`);
  assertEquals(await from(readVaeConfig, { base_dim: 8 }), tiny);
  assertEquals((await from(readVaeConfig, { decoder_base_dim: 48 })).decoderBaseDim, 48);
  const wan22 = await readVaeConfig(`${FIXTURES}tiny_wan22_vae/config.json`);
  assertEquals([wan22.shortcuts, wan22.patch, wan22.spatialScale, wan22.outChannels], [true, 2, 16, 3]);
});

Deno.test("VAE: what is not supported is named", () =>
  assertRefused(readVaeConfig, {}, [
    [{ _class_name: "AutoencoderKL" }, '_class_name "AutoencoderKL"'],
    [{ patch_size: 4 }, "patch_size 4 is not supported"],
    [{ patch_size: 2 }, "in_channels is absent, which is not supported; 12 was expected"],
    [{ in_channels: 12 }, "in_channels 12"],
    [{ out_channels: 12 }, "out_channels 12"],
    [{ attn_scales: [0.5] }, "attn_scales [0.5] is not supported; [] was expected"],
    [{ z_dim: 48 }, "latents_std has 16 entries, but 48 were expected"],
    [{ latents_mean: [0] }, "latents_mean has 1 entries, but 16 were expected"],
    [{ latents_mean: "0" }, 'latents_mean is "0", but a list of numbers'],
    [{ latents_std: new Array(16).fill(0) }, "latents_std holds a value that is not above 0"],
    [{ temperal_downsample: [true] }, "temperal_downsample has 1 entries, but 3 were expected"],
    [{ dim_mult: [] }, "dim_mult [] is not supported"],
    [{ scale_factor_spatial: 16 }, "scale_factor_spatial 16 is not supported; 8 was expected"],
    [{ decoder_base_dim: -1 }, "decoder_base_dim is -1"],
  ]));

Deno.test("UMT5: the demo and the fixture", async () => {
  assertEquals(await readUmt5Config(`${DEMO}text_encoder/config.json`), {
    vocabSize: 91,
    dModel: 128,
    dKv: 32,
    dFf: 256,
    layers: 2,
    heads: 4,
    relativeBuckets: 32,
    relativeMaxDistance: 128,
    eps: 1e-6,
  });
  assertEquals((await readUmt5Config(`${FIXTURES}tiny_umt5/config.json`)).vocabSize, 300);
});

Deno.test("UMT5: what is not supported is named", () =>
  assertRefused(readUmt5Config, { model_type: "umt5" }, [
    [{ model_type: "t5" }, 'model_type "t5" is not supported; "umt5" was expected'],
    [{ d_kv: 48 }, "d_kv 48 is not supported"],
    [{ d_ff: 10 }, "d_ff 10 is not supported"],
    [{ model_type: undefined }, "model_type is absent, which is not supported"],
    [{ feed_forward_proj: "relu" }, 'feed_forward_proj "relu" is not supported; "gated-gelu" was expected'],
    [{ dense_act_fn: "silu" }, 'dense_act_fn "silu"'],
    [{ relative_attention_num_buckets: 30 }, "relative_attention_num_buckets 30"],
    [{ relative_attention_max_distance: 8 }, "relative_attention_max_distance 8"],
    [{ d_model: [512] }, "d_model is [512]"],
  ]));

Deno.test("config files that hold no object are refused", async () => {
  await assertRejects(
    () => readUmt5Config("/nowhere/config.json"),
    TilereelError,
    "/nowhere/config.json does not exist",
  );
  await assertRejects(() => from(readVaeConfig, "{"), TilereelError, "is not valid JSON");
  await assertRejects(() => from(readVaeConfig, "[]"), TilereelError, "does not hold a JSON object");
});
