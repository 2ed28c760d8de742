/**
 * Clips that a model samples itself, to learn from them.
 *
 * @module
 */
import type { Gpu } from "../../../gpu/gpu.ts";
import type { HostConditioning } from "../../conditioning.ts";
import type { EncodePromptsOptions, GenerateOptions, VideoPipeline } from "../../pipeline.ts";
import type { SchedulerKind } from "../../schedulers/config.ts";
import type { Sigmas } from "../../schedulers/sigmas.ts";
import { embedTexts } from "./embed_texts.ts";

/**
 * One clip to sample. It is like {@link GenerateOptions}, but complete except for what the scheduler's file decides.
 */
export interface SampledClip {
  readonly prompt: string;
  readonly negativePrompt: string;
  readonly width: number;
  readonly height: number;
  readonly frames: number;
  readonly steps: number;
  readonly guidance: number;
  readonly seed: number;
  readonly scheduler?: SchedulerKind | undefined;
  readonly flowShift?: number | undefined;
  readonly sigmas?: Sigmas | undefined;
}

/** The inputs of a pipeline that samples a clip. */
export interface EmbeddedClip {
  readonly options: GenerateOptions;
  /** The conditioning by the prompt. */
  readonly conditioning: HostConditioning;
}

/**
 * Embeds the texts of clips, all at once, so that the text encoder's weights are read once.
 *
 * @returns for each clip what it is sampled with
 * @throws {TilereelError} if a text cannot be embedded
 */
export async function embedClips(
  gpu: Gpu,
  pipeline: VideoPipeline,
  clips: readonly SampledClip[],
  encoding: EncodePromptsOptions,
): Promise<EmbeddedClip[]> {
  const guided = ({ guidance }: SampledClip) => pipeline.passes(guidance).length > 1;
  const conditioningOf = await embedTexts(
    gpu,
    clips.flatMap((clip) => [clip.prompt, ...guided(clip) ? [clip.negativePrompt] : []]),
    pipeline.defaults.textTokens,
    (some) => pipeline.encodePrompts(some, encoding),
  );
  return clips.map((clip) => {
    const { negativePrompt, scheduler, flowShift, sigmas, ...rest } = clip;
    const conditioning = conditioningOf(clip.prompt);
    const options: GenerateOptions = {
      ...rest,
      embeddings: { positive: conditioning, ...guided(clip) && { negative: conditioningOf(negativePrompt) } },
      ...scheduler !== undefined && { scheduler },
      ...flowShift !== undefined && { flowShift },
      ...sigmas !== undefined && { sigmas },
    };
    return { options, conditioning };
  });
}
