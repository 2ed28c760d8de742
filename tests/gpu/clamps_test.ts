import { writeRandomCheckpoint } from "../../bench/full_size/checkpoint.ts";
import type { ClampCount } from "../../gpu/clamps.ts";
import { attention } from "../../gpu/ops/attention.ts";
import { layerNormInto } from "../../gpu/ops/layer_norm.ts";
import { linear, linearInto } from "../../gpu/ops/linear.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { openSafetensors } from "../../model/checkpoint/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../../model/checkpoint/write_safetensors.ts";
import { clampedText, VideoPipeline } from "../../model/pipeline.ts";
import { assert, assertEquals } from "@std/assert";
import { randn, testVariants, type Variant } from "../gpu.ts";
import { inTempDir } from "../process.ts";
import { gemmVariants } from "../product_variants.ts";

/** Tiled kernels in f32 have nothing to count, as plain ones. */
const f16OrPlain = ({ name }: Variant) => name !== "tiled";

const PRODUCTS = "inputs of matrix products";

/** m rows of k numbers, of which some are past f16's range, the last two on its edge. */
function far(m: number, k: number): Float32Array<ArrayBuffer> {
  const x = Float32Array.from(randn(m * k, 1));
  for (const [i, at] of [0, k + 3, 2 * k - 1, m * k - 1].entries()) x[at] = (i % 2 ? -1 : 1) * 1e5 * (i + 1);
  x[5] = 65504;
  x[6] = -65504;
  return x;
}

testVariants("what f16 cannot hold of a product's input is counted once, however it is made", async (variant) => {
  const { gpu } = variant, [m, n, k] = [270, 292, 72];
  const x = gpu.upload(far(m, k), [m, k]), w = gpu.upload(randn(n * k, 2), [n, k]);
  await gpu.takeClamped();
  const uncounted = await gpu.read(linear(gpu, x, w));
  assertEquals(await gpu.takeClamped(), [], "nobody asked for counts");
  gpu.countsClamps = true;
  assertEquals(await gpu.read(linear(gpu, x, w)), uncounted);
  await gpu.takeClamped();
  const counted = async (work: () => Tensor): Promise<readonly ClampCount[]> => {
    gpu.release(work());
    return await gpu.takeClamped();
  };
  for (const [name, way] of gemmVariants(variant)) {
    const half = way.by !== "threads" || way.format !== "f32";
    const counts = await counted(() => linear(gpu, x, w, { variant: way }));
    // By matrix units rows past the last one are read from it, and counted as often.
    const exact = way.by !== "matrix units";
    if (!half) assertEquals(counts, [], name);
    else if (exact) assertEquals(counts, [{ what: PRODUCTS, count: 4 }], name);
    else assert(counts[0]!.count >= 4, name);
  }
  const small = await counted(() => linear(gpu, x, w));
  assertEquals(small.length, gpu.f16 ? 1 : 0);
  assertEquals(await counted(() => linear(gpu, x, w, { precision: "f32" })), []);
  const tame = gpu.upload(randn(m * k, 3), [m, k]);
  assertEquals(await counted(() => linear(gpu, tame, w)), []);
  gpu.countsClamps = false;
  for (const tensor of [x, w, tame]) gpu.release(tensor);
}, f16OrPlain);

testVariants("what f16 cannot hold is counted where an output is handed on in f16, too", async ({ gpu }) => {
  const [m, k, wide] = [1900, 72, 1400];
  const x = gpu.upload(randn(m * k, 1), [m, k]), up = gpu.upload(randn(wide * k, 2), [wide, k]);
  const down = gpu.upload(randn(1400 * wide, 3), [1400, wide]);
  const bias = gpu.upload(Float32Array.from({ length: wide }, (_, i) => i === 7 ? 1e6 : 0), [wide]);
  const scale = gpu.upload(new Float32Array(k).fill(1), [1, 1, k]);
  const shift = gpu.upload(Float32Array.from({ length: k }, (_, i) => i === 9 ? 1e6 : 0), [1, 1, k]);
  await gpu.takeClamped();
  gpu.countsClamps = true;
  gpu.scope(() => void linear(gpu, linearInto(gpu, x, up, down, { bias }), down));
  const expected = gpu.f16 ? [{ what: PRODUCTS, count: m }] : [];
  assertEquals(await gpu.takeClamped(), expected);
  const adaptive = { scale: { tensor: scale, index: 0 }, shift: { tensor: shift, index: 0 } };
  gpu.scope(() => void linear(gpu, layerNormInto(gpu, x.reshape([1, m, k]), 1e-6, adaptive, up), up));
  assertEquals(await gpu.takeClamped(), expected);
  gpu.countsClamps = false;
  for (const tensor of [x, up, down, bias, scale, shift]) gpu.release(tensor);
});

testVariants("what f16 cannot hold of keys and values is counted", async ({ gpu }) => {
  const [tokens, dim] = [70, 128], data = randn(tokens * dim, 1);
  const q = gpu.upload(randn(tokens * dim, 2), [1, tokens, dim]), k = gpu.upload(data, [1, tokens, dim]);
  const v = gpu.upload(far(tokens, dim), [1, tokens, dim]);
  await gpu.takeClamped();
  gpu.countsClamps = true;
  gpu.scope(() => void attention(gpu, q, k, v, { heads: 1 }));
  const counts = await gpu.takeClamped();
  assertEquals(counts, gpu.f16 ? [{ what: "keys and values of attention", count: 4 }] : []);
  gpu.countsClamps = false;
  for (const tensor of [q, k, v]) gpu.release(tensor);
}, f16OrPlain);

testVariants("a weight that f16 cannot hold is told by its name, once, with the clip", async ({ gpu }) => {
  await inTempDir(async (dir) => {
    await writeRandomCheckpoint(dir, {
      stored: "F32",
      transformer: { num_attention_heads: 2, attention_head_dim: 32, num_layers: 2, ffn_dim: 96, text_dim: 48 },
      vae: { base_dim: 8, num_res_blocks: 1 },
    });
    const path = `${dir}/transformer/diffusion_pytorch_model.safetensors`, name = "blocks.1.attn2.to_k.weight";
    {
      using file = await openSafetensors(path);
      const tensors: Record<string, TensorToWrite> = {};
      for (const each of file.names()) {
        const data = new Float32Array((await file.read(each)).buffer);
        if (each === name) data.set([7e4, -1e6]);
        tensors[each] = { dtype: "F32", shape: file.info(each).shape, data };
      }
      await writeSafetensors(`${path}.new`, tensors);
    }
    await Deno.rename(`${path}.new`, path);
    await gpu.takeClamped();
    const pipeline = await VideoPipeline.load(dir, { gpu, weights: "stream" });
    const notes: string[] = [], clamped: ClampCount[][] = [];
    for (let clip = 0; clip < 2; clip++) {
      await pipeline.generate({
        ...{ prompt: "", width: 32, height: 16, frames: 5, steps: 2, guidance: 1 },
        embeddings: { positive: randn(5 * 48, 1) },
        onNote: (note) => notes.push(note),
        onClamped: (counts) => clamped.push([...counts]),
      });
    }
    pipeline.close();
    const counts = [{ what: `the weight "${name}"`, count: 2 }];
    assertEquals(clamped, gpu.f16 ? [counts] : []);
    assertEquals(notes, gpu.f16 ? [clampedText(counts)] : []);
    assert(clampedText(counts).includes(`of the weight "${name}" (2 times), which were clamped`));
  });
}, f16OrPlain);
