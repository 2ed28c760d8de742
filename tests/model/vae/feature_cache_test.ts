import { type Before, FeatureCache } from "../../../model/vae/feature_cache.ts";
import { assertEquals } from "@std/assert";
import { testOnGpu } from "../../gpu.ts";

testOnGpu(
  "a causal convolution sees zeros or the first frame before the clip, and then the frames before",
  async (gpu) => {
    for (const [before, past] of [["zeros", [0, 0]], ["first frame", [1, 1]]] as [Before, number[]][]) {
      const cache = new FeatureCache(gpu, before), layer = {};
      const extend = async (...frames: number[]) => {
        const x = gpu.upload(Float32Array.from(frames), [frames.length, 1, 1, 1]), y = cache.extend(layer, x);
        const seen = [...await gpu.read(y)];
        for (const tensor of [x, y]) gpu.release(tensor);
        return seen;
      };
      assertEquals(await extend(1, 2, 3), [...past, 1, 2, 3]);
      cache.settle();
      assertEquals(await extend(4), [2, 3, 4]);
      cache.release();
    }
  },
);
