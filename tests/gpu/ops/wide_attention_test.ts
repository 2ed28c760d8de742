import { wideAttention } from "../../../gpu/ops/wide_attention.ts";
import { assertClose, randn, testVariants } from "../../gpu.ts";

testVariants("wideAttention: a head of any width, over the first keys alone", async ({ gpu, bound }) => {
  for (const [queries, keys, width, channels] of [[1, 1, 4, 4], [5, 6, 8, 24], [130, 131, 132, 512]] as const) {
    const q = randn(queries * channels, 1, channels ** -0.5), k = randn(width * channels, 2);
    const v = randn(width * channels, 3), bias = randn(channels, 4), ref = new Float64Array(queries * channels);
    for (let i = 0; i < queries; i++) {
      const scores = Array.from({ length: keys }, (_, j) => {
        let sum = 0;
        for (let c = 0; c < channels; c++) sum += q[i * channels + c]! * k[j * channels + c]!;
        return Math.exp(sum);
      });
      const total = scores.reduce((a, b) => a + b);
      for (let c = 0; c < channels; c++) {
        ref[i * channels + c] = bias[c]! + scores.reduce((sum, s, j) => sum + s / total * v[c * width + j]!, 0);
      }
    }
    const into = gpu.tensor([queries, channels]);
    wideAttention(gpu, {
      q: gpu.upload(q, [queries, channels]),
      k: gpu.upload(k, [width, channels]),
      v: gpu.upload(v, [channels, width]),
      bias: gpu.upload(bias, [channels]),
      ...{ keys, into },
    });
    assertClose(await gpu.read(into), ref, bound, `${queries} x ${keys} x ${channels}`);
  }
});
