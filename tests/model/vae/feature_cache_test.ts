import { type Before, FeatureCache } from "../../../model/vae/feature_cache.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import { assertEquals } from "@std/assert";
import { testOnGpu } from "../../gpu.ts";

/** The numbers of a tensor that is f32 or f16. */
async function values(gpu: Gpu, tensor: Tensor): Promise<ArrayLike<number>> {
  const bytes = await gpu.readBytes(tensor);
  return tensor.format.name === "f16" ? new Float16Array(bytes, 0, tensor.size) : new Float32Array(bytes);
}

testOnGpu(
  "a causal convolution sees zeros or the first frame before the clip, and then the frames before",
  async (gpu) => {
    for (const [before, past] of [["zeros", [0, 0]], ["first frame", [1, 1]]] as [Before, number[]][]) {
      const cache = new FeatureCache(gpu, before), layer = {};
      const extend = async (most: number, ...frames: number[]) => {
        const x = gpu.upload(Float32Array.from(frames.flatMap((v) => [v, v, v, v])), [frames.length, 1, 1, 4]);
        const { tensor, ring: { first, frames: count } } = cache.extend(layer, x, most);
        const all = Float32Array.from(await values(gpu, tensor)).filter((_, i) => i % 4 === 0);
        gpu.release(x);
        return Array.from({ length: count }, (_, i) => all[(first + i) % all.length]);
      };
      assertEquals(await extend(3, 1, 2), [...past, 1, 2]);
      cache.settle();
      assertEquals(await extend(3, 3, 4, 5), [1, 2, 3, 4, 5]);
      assertEquals(await extend(3, 6), [4, 5, 6]);
      // More than there is room for.
      assertEquals(await extend(3, 7, 8, 9, 10), [5, 6, 7, 8, 9, 10]);
      assertEquals(await extend(3, 11), [9, 10, 11]);
      cache.settle();
      cache.release();
    }
  },
);
