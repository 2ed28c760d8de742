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
export type { ClampCount } from "./clamps.ts";
export { DeviceLostError, NotFiniteError, OutOfMemoryError, TilereelError } from "./common/errors.ts";
export type { AdapterDescription } from "./device/adapter.ts";
export { browser } from "./device/browser.ts";
export type { DeviceSource, WantedFeature } from "./device/source.ts";
export type { MatrixFormat, TensorFormat } from "./formats/format.ts";
export { type Format, FORMATS } from "./formats/formats.ts";
export { Gpu, type GpuSettings } from "./gpu.ts";
export type { Binding, KernelSource, ParamType } from "./kernel.ts";
export type { KernelKind, KernelPicker } from "./kernel_picker.ts";
export type { MatrixUnits } from "./matrix_units.ts";
export type { MemoryUse } from "./memory.ts";
export { chooseAdapter, listAdapters, openGpu, type OpenGpuOptions } from "./open.ts";
export { combine, type Term } from "./ops/combine.ts";
export type { Rope } from "./ops/rms_norm.ts";
export type { Precision } from "./precision.ts";
export { type Label, type ProfiledDispatch, Profiler } from "./profile/profiler.ts";
export type { Dispatch } from "./recorder.ts";
export type { Backward } from "./scopes.ts";
export { Tape } from "./tape.ts";
export type { Tensor } from "./tensor.ts";
export { TensorOwner } from "./tensor_owner.ts";
export type { FamilyChoice, KernelChoices, TuningStore } from "./tuning/choices.ts";
export type { AnyFamily } from "./tuning/families.ts";
export type { KernelFamily } from "./tuning/family.ts";
export { DEFAULTS, type Defaults, defaultsFor } from "./tuning/defaults.ts";
export { tuneKernels, type TuneOptions, useRemembered } from "./tuning/tune.ts";
