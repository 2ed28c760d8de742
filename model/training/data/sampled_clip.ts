import type { Gpu } from "../../../gpu/gpu.ts";
import type { HostConditioning } from "../../conditioning.ts";
import type { EncodePromptsOptions, GenerateOptions, VideoPipeline } from "../../pipeline.ts";
import { embedTexts } from "./embed_texts.ts";

/** A clip that a model samples itself, to learn from it: complete except for what the model's scheduler decides. */
export type SampledClip =
  & Required<
    Pick<
      GenerateOptions,
      "prompt" | "negativePrompt" | "width" | "height" | "frames" | "steps" | "guidance" | "seed"
    >
  >
  & Pick<GenerateOptions, "scheduler" | "flowShift" | "sigmas">;

/**
 * Embeds the texts of clips, all at once, so that the text encoder's weights are read once.
 *
 * @returns the clips with the conditioning of each by its prompt, and by its negative prompt where that counts
 * @throws {TilereelError} if a text cannot be embedded
 */
export async function embedClips(
  gpu: Gpu,
  pipeline: VideoPipeline,
  clips: readonly SampledClip[],
  encoding: EncodePromptsOptions,
): Promise<(SampledClip & { readonly embeddings: { readonly positive: HostConditioning } })[]> {
  const guided = ({ guidance }: SampledClip) => pipeline.passes(guidance).length > 1;
  const conditioningOf = await embedTexts(
    gpu,
    clips.flatMap((clip) => [clip.prompt, ...guided(clip) ? [clip.negativePrompt] : []]),
    pipeline.defaults.textTokens,
    (some) => pipeline.encodePrompts(some, encoding),
  );
  return clips.map((clip) => ({
    ...clip,
    embeddings: {
      positive: conditioningOf(clip.prompt),
      ...guided(clip) && { negative: conditioningOf(clip.negativePrompt) },
    },
  }));
}
