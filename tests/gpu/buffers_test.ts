import { type Modules, recordFamilies, recordModel } from "../../bench/kernels/recorded.ts";
import { attentionBackwardTiled } from "../../gpu/kernels/attention/backward.ts";
import { assertEquals } from "@std/assert";

/**
 * The storage buffers that a kernel may bind in browsers. WebGPU promises 8; nearly all adapters that browsers offer
 * have 10.
 */
const MOST = 10;

Deno.test("kernels bind at most 10 storage buffers, except some gradients of attention", async () => {
  const modules: Modules = new Map();
  // Dawn has all kinds of devices.
  await recordFamilies("dawn", modules);
  await recordModel("dawn", modules);
  const over = [...modules].filter(([, wgsl]) => (wgsl.match(/var<storage/g) ?? []).length > MOST);
  assertEquals(over.map(([name]) => name), []);
  // Neither inference nor the training of a router runs these: they would need other kernels in browsers.
  const gradients = ([["q", false], ["q", true], ["kv", false], ["kv", true]] as const).map(([of, plan]) => {
    const { buffers } = attentionBackwardTiled({ headDim: 128, plan, of });
    return [`${of}${plan ? " by a plan" : ""}`, Object.keys(buffers).length];
  });
  assertEquals(Object.fromEntries(gradients), { "q": 10, "q by a plan": 12, "kv": 11, "kv by a plan": 13 });
});
