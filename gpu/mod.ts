/**
 * Tensors and kernels on WebGPU, wherever it is: this module runs in browsers, too. What needs Deno is in
 * `gpu/native/`.
 *
 * ```ts
 * import { openGpu } from "./gpu/mod.ts";
 *
 * const gpu = await openGpu();
 * const x = gpu.upload(new Float32Array([1, 2, 3]), [3]);
 * console.log(await gpu.read(x));
 * gpu.close();
 * ```
 *
 * @module
 */
export type { AdapterDescription } from "./device/adapter.ts";
export { browser } from "./device/browser.ts";
export type { DeviceSource, WantedFeature } from "./device/source.ts";
export { TilereelError } from "./common/errors.ts";
export { Gpu, type GpuSettings } from "./gpu.ts";
export type { KernelKind } from "./kernel_picker.ts";
export { chooseAdapter, listAdapters, openGpu, type OpenGpuOptions } from "./open.ts";
export type { Precision } from "./precision.ts";
export type { GpuDtype, Tensor } from "./tensor.ts";
export { TensorOwner } from "./tensor_owner.ts";
export type { KernelChoices, TuningStore } from "./tuning/choices.ts";
export { tuneKernels, type TuneOptions } from "./tuning/tune.ts";
