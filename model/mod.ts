/**
 * Text to video on a {@linkcode Gpu}: what runs in a browser's page as well as in Deno. A model is read from a
 * {@linkcode FileStore}; where there is a disk, a path will do.
 *
 * @module
 */
export { fullAttention } from "./attention/full.ts";
export type { AttentionMethod, AttentionTask, PreparedAttention, SelfAttention } from "./attention/method.ts";
export type { Grid } from "./attention/grid.ts";
export type { PreparedSomeHeads, SomeHeadsMethod } from "./attention/head_groups.ts";
export type { HeadShape, TokenLayout } from "./attention/layout.ts";
export type { AttentionReport } from "./attention/report.ts";
export type { WeightsChoice, WeightsPlace, WeightsPlacement } from "./blocks/weights_place.ts";
export type { GenerationDefaults } from "./checkpoint/generation_defaults.ts";
export { type ModelFolder, openModel, openModelFolder } from "./checkpoint/model_folder.ts";
export type { GivenParts, PartPlace } from "./checkpoint/part_place.ts";
export {
  type Dtype,
  openSafetensors,
  readFloat32,
  type TensorInfo,
  type TensorSource,
} from "./checkpoint/safetensors.ts";
export { openCheckpoint } from "./checkpoint/sharded.ts";
export { families, registerFamily } from "./families.ts";
export { blobFolder } from "./files/blobs.ts";
export { type BytesStore, cachedFolder } from "./files/cached.ts";
export { httpFolder } from "./files/http.ts";
export { folderOf, memoryFile, memoryFolder, type OpenBytes } from "./files/memory.ts";
export type { ByteSource, FileStore, StoredFile } from "./files/store.ts";
export type {
  CodingOptions,
  Conditioning,
  EmbeddedPass,
  Family,
  FamilyModel,
  ForwardPass,
  FusedTensor,
  ModelPart,
  PartWeights,
  VaePart,
  VideoTransformer,
  VideoVae,
} from "./family.ts";
export { easyCache, type EasyOptions } from "./cache/easy.ts";
export { firstBlockCache, type FirstBlockOptions } from "./cache/first_block.ts";
export { type PabOptions, pyramidAttentionBroadcast } from "./cache/pab.ts";
export { teaCache, type TeaOptions } from "./cache/tea.ts";
export { type Lora, loraDeltas } from "./lora/lora.ts";
export type {
  CacheHooks,
  CacheNumbers,
  CacheReport,
  CacheTask,
  PreparedCache,
  SparedWork,
  StepCache,
} from "./cache/step_cache.ts";
export type { GuidedPass, PassName } from "./guidance.ts";
export { type ModelIdentity, modelIdentity } from "./identity/model_identity.ts";
export { LastingPipeline, type OpenOptions, type OpenPipeline } from "./lasting_pipeline.ts";
export { randn } from "./noise.ts";
export { type PreviewOptions, Previews } from "./previews.ts";
export {
  type Array5D,
  type EncodePromptsOptions,
  type GenerateOptions,
  type LoadOptions,
  VideoPipeline,
} from "./pipeline.ts";
export { type ClipStage, type OnProgress, overall, type Progress, type Stage } from "./progress.ts";
export type { HostConditioning, HostTensor } from "./conditioning.ts";
export type { Picture } from "./picture/picture.ts";
export type { ClipPictures, ImageNeeds, Need } from "./pictures_of_clip.ts";
export type { PromptEmbeddings } from "./prompt_encoder.ts";
export type { SamplingState } from "./sampling_state.ts";
export {
  readSchedulerConfig,
  type ScheduledClip,
  type SchedulerConfig,
  type SchedulerKind,
} from "./schedulers/config.ts";
export {
  createScheduler,
  type Scheduler,
  type SchedulerOptions,
  type Stepper,
  type TensorOps,
} from "./schedulers/scheduler.ts";
export type { SigmaGrid, Sigmas } from "./schedulers/sigmas.ts";
export { type AssistantOptions, type AssistedOptions, GuidanceAssistant } from "./split_guidance/assistant.ts";
export {
  type DistantPass,
  type DistantVelocity,
  type GuidancePartner,
  PartnerLostError,
  type SplitClip,
} from "./split_guidance/partner.ts";
export type {
  EncodedPrompts,
  OpenTextEncoder,
  TextEncodeOptions,
  TextEncoder,
  TokenizedPrompt,
} from "./text_encoder.ts";
export { type EncodedText, loadTokenizer, type Tokenizer } from "./tokenizer/tokenizer.ts";
export type { Umt5Config } from "./umt5/config.ts";
export { openUmt5Encoder, type Umt5Encoder } from "./umt5/encoder.ts";
export { vedaAttention, vedaHeads, type VedaOptions } from "./veda/methods.ts";
export type { Projections, StoredProjection, TileScorer } from "./veda/scorer.ts";
export type { TileShape, TileShapes } from "./veda/tile_shapes.ts";
export { vsaAttention, type VsaOptions } from "./vsa/methods.ts";
export { loadVeda, type Target, type VedaFile } from "./veda/veda_file.ts";
export { encodeVideo, type FileFormat, type WriteOptions } from "./video/encode_video.ts";
export { psnr, ssim } from "./video/quality.ts";
export type { ClipRecord } from "./video/record_text.ts";
export type { Video } from "./video/video.ts";
export { type Branch, BRANCHES } from "./vorta/branch.ts";
export { routedAttention, type RoutedAttentionOptions, type SettingsFor, singleBranch } from "./vorta/methods.ts";
export { Router, type RouterLayer, type RouterShape } from "./vorta/router.ts";
export { type LoadedRouter, loadRouter, type RouterOfSize, settingsOfRouter } from "./vorta/router_file.ts";
export { defaultSettings, type VortaSettings } from "./vorta/settings.ts";
export type { ClipSize } from "./video_size.ts";
export type { WeightDtypeChoice } from "./weights/weight_dtype.ts";
export type { ModelDeltas, OpenModelDeltas, WeightDelta, WeightDeltas } from "./weights/weight_options.ts";
export type { LatentDistribution, TiledCodingOptions } from "./vae/autoencoder.ts";
