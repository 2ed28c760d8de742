import type { Gpu } from "../../gpu/gpu.ts";
import type { OpenOptions, OpenPipeline } from "../../model/lasting_pipeline.ts";
import type { LoadOptions } from "../../model/pipeline.ts";
import { openGpuAsAsked } from "../../tools/program/gpu_options.ts";
import { loadPipeline, type modelOptions } from "../../tools/program/model_options.ts";
import type { OptionValues } from "../../tools/program/options.ts";
import { type RunningProfile, startProfile } from "../../tools/program/profile.ts";
import type { Address } from "../address.ts";
import { helloOf, identityOf } from "../split_guidance/hello.ts";
import { AssistantLink } from "../split_guidance/link.ts";
import { tokenOf } from "../token.ts";

/** The options that a model is opened with, to plan clips for it and to make them. */
export interface WorkshopValues extends OptionValues<typeof modelOptions> {
  readonly embeddings?: string;
  readonly latents?: string;
  /** --preview-vae */
  readonly "preview-vae"?: string;
  readonly profile?: string;
  readonly "split-guidance"?: Address;
  readonly token?: string;
}

/** An open pipeline, and the profile that is measured on its GPU, if one was asked for. */
export interface Workshop extends OpenPipeline {
  readonly profile: RunningProfile | undefined;
  /** Computes half of each step, if --split-guidance says so. */
  readonly assistant: AssistantLink | undefined;
}

/**
 * Opens the GPU and loads the model.
 *
 * @param clips to come, or the largest one that may come: see {@link LoadOptions.clips}
 * @throws {TilereelError} if there is no such adapter, or the model cannot be loaded
 * @throws the signal's reason, if it is aborted
 */
export async function openWorkshop(
  values: WorkshopValues,
  clips: LoadOptions["clips"],
  { onProgress, onNote, signal }: OpenOptions,
): Promise<Workshop> {
  using cleanUp = new DisposableStack();
  const gpu = await openGpuAsAsked(values);
  cleanUp.defer(() => gpu.close());
  // Before the model is loaded, which may take minutes.
  const assistant = await linkOf(values, gpu, onNote);
  if (assistant) cleanUp.use(assistant);
  const profile = values.profile === undefined ? undefined : cleanUp.use(await startProfile(gpu, values.profile));
  const pipeline = await loadPipeline(values, {
    gpu,
    clips,
    onProgress,
    onNote,
    signal,
    previewVae: values["preview-vae"],
  });
  cleanUp.defer(() => pipeline.close());
  const held = cleanUp.move();
  return { gpu, pipeline, profile, assistant, [Symbol.dispose]: () => held.dispose() };
}

/** The connection to the assistant that the options name. */
async function linkOf(
  values: WorkshopValues,
  gpu: Gpu,
  onNote: OpenOptions["onNote"],
): Promise<AssistantLink | undefined> {
  const { "split-guidance": address } = values;
  if (address === undefined) return undefined;
  const token = tokenOf(values.token), own = await helloOf(await identityOf(values), gpu);
  return await AssistantLink.open({ address, token, own, onNote });
}
