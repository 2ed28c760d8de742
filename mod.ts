/**
 * Text to video with Wan 2.1 checkpoints on WebGPU, in Deno.
 *
 * ```ts
 * import { embeddedModelDir, openGpu, VideoPipeline, writeVideo } from "./mod.ts";
 *
 * const gpu = await openGpu();
 * const pipeline = await VideoPipeline.load(embeddedModelDir(), { gpu });
 * const video = await pipeline.generate({
 *   prompt: "a red circle moving right on a black background",
 *   seed: 7,
 *   steps: 4,
 *   onProgress: ({ stage, done, total }) => console.log(stage, done, total),
 * });
 * await writeVideo("circle.mp4", video);
 * pipeline.close();
 * gpu.close();
 * ```
 *
 * `openGpu({ tune: true })`, for large models, has the fastest kernels for the adapter chosen by a trial of up to a
 * minute, the first time, which is remembered in the user's cache folder; {@linkcode tuneKernels} says more.
 *
 * Everything that the user can put right is thrown as a {@linkcode TilereelError} with one clear sentence.
 *
 * @module
 */
export { NotFiniteError, TilereelError } from "./gpu/common/errors.ts";
export { listAdapters, openGpu } from "./gpu/native/open.ts";
export type { OpenGpuOptions } from "./gpu/open.ts";
export type { AdapterDescription } from "./gpu/device/adapter.ts";
export type { DeviceSource, WantedFeature } from "./gpu/device/source.ts";
export type { ClampCount } from "./gpu/clamps.ts";
export type { Gpu, GpuSettings } from "./gpu/gpu.ts";
export type { KernelKind, KernelPicker } from "./gpu/kernel_picker.ts";
export type { MatrixUnits } from "./gpu/matrix_units.ts";
export type { Precision } from "./gpu/precision.ts";
export { type Label, type ProfiledDispatch, Profiler } from "./gpu/profile/profiler.ts";
export type { Dispatch } from "./gpu/recorder.ts";
export type { FamilyChoice, KernelChoices, TuningStore } from "./gpu/tuning/choices.ts";
export { tuneKernels, type TuneOptions } from "./gpu/tuning/tune.ts";
export type { AnyFamily } from "./gpu/tuning/families.ts";
export type { KernelFamily } from "./gpu/tuning/family.ts";
export {
  type AttentionMethod,
  type AttentionTask,
  type PreparedAttention,
  type SelfAttention,
} from "./model/attention/method.ts";
export { fullAttention } from "./model/attention/full.ts";
export type { HeadShape, TokenLayout } from "./model/attention/layout.ts";
export type { AttentionReport } from "./model/attention/report.ts";
export { embeddedModelDir } from "./model/embedded.ts";
export type { GenerationDefaults } from "./model/checkpoint/generation_defaults.ts";
export type { TrainedSize } from "./model/checkpoint/trained_sizes.ts";
export {
  type Array5D,
  type EncodePromptsOptions,
  type GenerateOptions,
  type LoadOptions,
  VideoPipeline,
} from "./model/pipeline.ts";
export type { ModelFolder } from "./model/checkpoint/model_folder.ts";
export type { PromptEmbeddings } from "./model/prompt_encoder.ts";
export type { ModelFiles } from "./model/model_files.ts";
export type { WeightsChoice, WeightsPlace, WeightsPlacement } from "./model/blocks/weights_place.ts";
export type { WeightDtypeChoice } from "./model/weight_dtype.ts";
export type { OnProgress, Progress } from "./model/progress.ts";
export type { SchedulerKind } from "./model/schedulers/config.ts";
export type { SigmaGrid, Sigmas } from "./model/schedulers/sigmas.ts";
export { psnr, ssim } from "./model/video/quality.ts";
export type { Video } from "./model/video/video.ts";
export type { PreparedSomeHeads, SomeHeadsMethod } from "./model/attention/head_lists.ts";
export { vedaAttention, vedaHeads, type VedaOptions } from "./model/veda/methods.ts";
export type { Projections, StoredProjection, TileScorer } from "./model/veda/scorer.ts";
export type { TilePlan } from "./model/veda/tile_plan.ts";
export type { TileShape } from "./model/veda/tiling.ts";
export { loadVeda, saveVeda, type Target, type VedaFile } from "./model/veda/veda_file.ts";
export { type Branch, BRANCHES } from "./model/vorta/branch.ts";
export { routedAttention, type RoutedAttentionOptions, type SettingsFor, singleBranch } from "./model/vorta/methods.ts";
export { Router, type RouterLayer, type RouterShape } from "./model/vorta/router.ts";
export { type LoadedRouter, loadRouter, saveRouter } from "./model/vorta/router_file.ts";
export { defaultSettings, type VortaSettings } from "./model/vorta/settings.ts";
export { type ClipRecord, readRecord } from "./model/video/record.ts";
export { VIDEO_FORMATS, type VideoFormat, type WriteOptions, writeVideo } from "./model/video/write_video.ts";

// The parts, for those who build their own pipeline.
export type { Binding, KernelSource, ParamType, WgslDialect } from "./gpu/kernel.ts";
export type { MemoryUse } from "./gpu/memory.ts";
export { combine, type Term } from "./gpu/ops/combine.ts";
export { type Backward, Tape } from "./gpu/tape.ts";
export type { GpuDtype, Tensor } from "./gpu/tensor.ts";
export { openCheckpoint } from "./model/checkpoint/sharded.ts";
export {
  type Dtype,
  openSafetensors,
  readFloat32,
  type TensorInfo,
  type TensorSource,
  type TensorToWrite,
  writeSafetensors,
} from "./model/checkpoint/safetensors.ts";
export { randn } from "./model/noise.ts";
export { readSchedulerConfig, type SchedulerConfig } from "./model/schedulers/config.ts";
export {
  createScheduler,
  type Scheduler,
  type SchedulerOptions,
  type Stepper,
  type TensorOps,
} from "./model/schedulers/scheduler.ts";
export type { TextEncodeOptions, TextEncoder, TokenizedPrompt } from "./model/text_encoder.ts";
export { type EncodedText, loadTokenizer, type Tokenizer } from "./model/tokenizer/tokenizer.ts";
export type { Umt5Config } from "./model/umt5/config.ts";
export { openUmt5Encoder, type Umt5Encoder } from "./model/umt5/encoder.ts";
export {
  AutoencoderKLWan,
  type CodingOptions,
  type LatentDistribution,
  type VaePart,
} from "./model/wan/vae/autoencoder.ts";
export { readVaeConfig, type VaeConfig } from "./model/wan/vae/config.ts";
export { readTransformerConfig, type TransformerConfig } from "./model/wan/config.ts";
export type { Rope } from "./gpu/ops/rms_norm.ts";
export type { Conditioning } from "./model/wan/block.ts";
export type { Grid } from "./model/attention/grid.ts";
export { type Embedded, type TransformerInput, WanTransformer3DModel } from "./model/wan/transformer.ts";
