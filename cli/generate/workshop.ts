/**
 * A GPU with a loaded model on it.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import { onnxTextEncoder } from "../../model/onnx/text_encoder.ts";
import { type LoadOptions, VideoPipeline } from "../../model/pipeline.ts";
import type { PromptEmbeddings } from "../../model/prompt_encoder.ts";
import type { OnProgress } from "../../model/progress.ts";
import type { GenerateValues } from "../commands/generate.ts";
import { type GpuValues, openGpuAsAsked } from "../../tools/program/gpu_options.ts";
import { type RunningProfile, startProfile } from "../../tools/program/profile.ts";
import type { EmbeddingsFile } from "./tensor_files.ts";

/** What is opened. */
export interface WorkshopOptions {
  readonly values: GpuValues & Pick<GenerateValues, "weights" | "weight-dtype" | "profile">;
  /** A folder. Default: the embedded model. */
  readonly model: string | undefined;
  readonly textEncoder: string | undefined;
  readonly clips: NonNullable<LoadOptions["clips"]>;
  readonly onProgress: OnProgress;
}

/** A GPU and the pipeline that is loaded on it. Disposing of it frees both. */
export interface Workshop extends Disposable {
  readonly gpu: Gpu;
  readonly pipeline: VideoPipeline;
  readonly profile: RunningProfile | undefined;
}

/**
 * Opens the GPU and loads the model.
 *
 * @throws {TilereelError} if there is no such adapter, or the model cannot be loaded
 */
export async function openWorkshop(options: WorkshopOptions): Promise<Workshop> {
  const { values, model, textEncoder, clips, onProgress } = options;
  using cleanUp = new DisposableStack();
  const gpu = await openGpuAsAsked(values, onProgress, { brief: model === undefined });
  cleanUp.defer(() => gpu.close());
  const profile = values.profile === undefined ? undefined : cleanUp.use(await startProfile(gpu, values.profile));
  const pipeline = await VideoPipeline.load(model ?? embeddedModelDir(), {
    ...{ gpu, clips, onProgress },
    weights: values.weights,
    weightDtype: values["weight-dtype"],
    textEncoder: textEncoder === undefined ? undefined : onnxTextEncoder(textEncoder),
  });
  cleanUp.defer(() => pipeline.close());
  const held = cleanUp.move();
  return { gpu, pipeline, profile, [Symbol.dispose]: () => held.dispose() };
}

/**
 * Embeddings from a file, for a model.
 *
 * @throws {TilereelError} if they are another encoder's
 */
export function fittingEmbeddings(
  path: string,
  { positive, negative }: EmbeddingsFile,
  textDim: number,
): PromptEmbeddings {
  const channels = positive.shape.at(-1);
  if (channels !== textDim) {
    throw new TilereelError(
      `--embeddings ${path} have ${channels} channels, but the transformer takes ${textDim}: ` +
        `use those of the text encoder that it was trained with`,
    );
  }
  return { positive: positive.data, ...negative && { negative: negative.data } };
}
