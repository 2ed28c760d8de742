import type { Gpu } from "../../gpu/gpu.ts";
import type { AttentionMethod } from "../attention/method.ts";
import type { FamilyModel } from "../family.ts";
import type { ClipSize } from "../video_size.ts";

/** A clip, and the timesteps of its steps. */
export interface ScheduledDensity extends ClipSize {
  readonly guidance: number;
  readonly timesteps: readonly number[];
}

/** What a router needs, which a dry device does not compute. */
const COMPUTED = new Error("a timestep's embedding must be computed");

/**
 * The share of full attention's pairs that a method will multiply, as the report of the clip will have it.
 *
 * @param gpu a dry device
 * @returns undefined where only the GPU can say it, as for a router's choices
 * @throws as {@link AttentionMethod.prepare} does
 */
export async function expectedDensity(
  gpu: Gpu,
  model: Pick<FamilyModel, "shape" | "family" | "layout" | "passes">,
  clip: ScheduledDensity,
  method: AttentionMethod,
): Promise<number | undefined> {
  const { shape, family } = model, layout = model.layout(clip), { kept, length = kept } = layout;
  try {
    using prepared = await method.prepare({
      ...{ gpu, shape, family, layout },
      lengths: model.passes(clip.guidance).map(() => length),
      timesteps: clip.timesteps,
      timeEmbedding: () => Promise.reject(COMPUTED),
    });
    return prepared.report().density;
  } catch (error) {
    if (error === COMPUTED) return undefined;
    throw error;
  }
}
