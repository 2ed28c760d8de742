/**
 * SSIM as its paper writes it, to check the quick one with.
 *
 * @module
 */
import type { Video } from "../model/video/video.ts";

/** On luma, every 11×11 window by itself in float64, variances about the mean (Wang et al. 2004). */
export function naiveSsim(a: Video, b: Video): number {
  const weights: number[] = [];
  for (let y = -5; y <= 5; y++) for (let x = -5; x <= 5; x++) weights.push(Math.exp(-(x * x + y * y) / 4.5));
  const total = weights.reduce((sum, w) => sum + w);
  const luma = (video: Video, f: number, y: number, x: number) => {
    const [red, green, blue] = video.data.subarray(((f * video.height + y) * video.width + x) * 3);
    return 0.299 * red! + 0.587 * green! + 0.114 * blue!;
  };
  let sum = 0, windows = 0;
  for (let f = 0; f < a.frames; f++) {
    for (let top = 0; top + 11 <= a.height; top++) {
      for (let left = 0; left + 11 <= a.width; left++, windows++) {
        const [p, q] = [a, b].map((video) =>
          weights.map((_, i) => luma(video, f, top + Math.floor(i / 11), left + i % 11))
        ) as [number[], number[]];
        const mean = (values: number[]) => values.reduce((s, v, i) => s + v * weights[i]!, 0) / total;
        const mp = mean(p), mq = mean(q);
        const vp = mean(p.map((v) => (v - mp) ** 2)), vq = mean(q.map((v) => (v - mq) ** 2));
        const cov = mean(p.map((v, i) => (v - mp) * (q[i]! - mq)));
        sum += (2 * mp * mq + 6.5025) * (2 * cov + 58.5225) / ((mp * mp + mq * mq + 6.5025) * (vp + vq + 58.5225));
      }
    }
  }
  return sum / windows;
}
