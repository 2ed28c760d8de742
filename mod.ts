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
export * from "./gpu/mod.ts";
export * from "./model/mod.ts";

// What needs Deno: its devices, and its disk.
export { listAdapters, openGpu } from "./gpu/native/open.ts";
export { type TensorToWrite, writeSafetensors } from "./model/checkpoint/write_safetensors.ts";
export { embeddedModelDir } from "./model/embedded.ts";
export { saveVeda } from "./model/veda/save_veda.ts";
export { type ClipRecord, readRecord } from "./model/video/record.ts";
export { VIDEO_FORMATS, type VideoFormat, type WriteOptions, writeVideo } from "./model/video/write_video.ts";
export { saveRouter } from "./model/vorta/save_router.ts";
