import { type Modules, recordFamilies, recordModel } from "../../bench/kernels/recorded.ts";
import { attentionBackwardTiled } from "../../gpu/kernels/attention/backward.ts";
import { dryGpu, NVIDIA_MATRIX_UNITS } from "../../gpu/device/dry.ts";
import { Linear } from "../../model/layers/linear.ts";
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

Deno.test("layers of one input share a dispatch only where a kernel may bind enough storage buffers", () => {
  const [rows, outputs, inputs] = [2610, 264, 48];
  const gemms = (buffers: number, int8: boolean) => {
    const limits = { maxStorageBuffersPerShaderStage: buffers };
    const gpu = dryGpu({ precision: "f16", int8, subgroup: 32, matrixUnits: NVIDIA_MATRIX_UNITS, limits });
    const layer = () => {
      const weight = gpu.tensor([outputs, inputs], int8 ? "i8" : "bf16");
      return { to: new Linear(weight, undefined, false, int8 ? gpu.tensor([outputs]) : undefined).shared(gpu, rows) };
    };
    const layers = [layer(), layer(), layer()], x = layers[0]!.to.share(gpu, gpu.tensor([1, rows, inputs]));
    const counts: number[] = [], { run } = gpu;
    gpu.run = function (kernel, dispatch) {
      counts.push(Object.keys(kernel.buffers).length);
      run.call(this, kernel, dispatch);
    };
    Linear.applyAll(gpu, x, layers);
    assertEquals(counts.every((count) => count <= buffers), true, counts.join());
    return counts.length;
  };
  for (const int8 of [false, true]) assertEquals([gemms(16, int8), gemms(MOST, int8)], [1, 3]);
});
