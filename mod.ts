/**
 * Text to video on WebGPU, in Deno.
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
 * Kernels are the shipped defaults for the adapter. `openGpu({ tune: true })` has the fastest ones chosen by a trial of
 * some seconds, the first time, which is remembered in the user's cache folder; {@linkcode tuneKernels} says more.
 *
 * Everything that the user can put right is thrown as a {@linkcode TilereelError} with one clear sentence.
 *
 * @module
 */
export * from "./gpu/mod.ts";
export * from "./model/mod.ts";

// What needs Deno: its devices, and its disk. Trainings are here because they write files.
export { listAdapters, openGpu } from "./gpu/native/open.ts";
export { type TensorToWrite, writeSafetensors } from "./model/checkpoint/write_safetensors.ts";
export { embeddedModelDir } from "./model/embedded.ts";
export { type CaptionedClip, encodedSet } from "./model/training/data/encoded_set.ts";
export { captionedClips } from "./model/training/data/captioned_clips.ts";
export type { SetOptions } from "./model/training/data/cached_set.ts";
export { LatentCache } from "./model/training/data/latent_cache.ts";
export type { SampledClip } from "./model/training/data/sampled_clip.ts";
export { sampledSet } from "./model/training/data/sampled_set.ts";
export type { TrainingSample, TrainingSet } from "./model/training/data/training_set.ts";
export type { TrainingIdentity } from "./model/training/identity.ts";
export type { TrainingOptions } from "./model/training/training_options.ts";
export { loadSamplingState, saveSamplingState } from "./model/state_file.ts";
export { onnxTextEncoder } from "./model/onnx/text_encoder.ts";
export { bestSingle, choosePlan, meanError, type SearchTable } from "./model/veda/plan_choice.ts";
export {
  type AttentionState,
  type SamplingObserver,
  type SamplingRuns,
  samplingRuns,
} from "./model/veda/sampling_states.ts";
export { saveVeda } from "./model/veda/save_veda.ts";
export { candidateShapes, searchTiles, type TileSearch } from "./model/veda/tile_search.ts";
export { trainTiles } from "./model/veda/tile_trainer.ts";
export {
  TILE_RECIPE,
  type TileRecipe,
  type TileTraining,
  type TileTrainingStep,
} from "./model/veda/training_options.ts";
export { readPicture } from "./model/video/read/picture.ts";
export { readRecord } from "./model/video/record.ts";
export { VIDEO_FORMATS, type VideoFormat, writeVideo } from "./model/video/write_video.ts";
export { AUTHORS_RECIPE, type LossWeights, type TrainingRecipe } from "./model/vorta/recipe.ts";
export { type RoutedModel, routedModel } from "./model/vorta/routed_model.ts";
export { saveRouter } from "./model/vorta/save_router.ts";
export { trainRouter } from "./model/vorta/trainer.ts";
export type { RouterTrainingStep } from "./model/vorta/training_figures.ts";
export type { RouterTraining } from "./model/vorta/training_options.ts";
