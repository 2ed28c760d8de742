import type { Gpu } from "../../gpu/gpu.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Precision } from "../../gpu/precision.ts";
import type { WeightsPlace } from "../../model/blocks/weights_place.ts";
import { type CountedClip, peakOf } from "../../model/estimate/clip_memory.ts";
import { clipSeconds } from "../../model/estimate/clip_time.ts";
import { knownGpu } from "../../model/estimate/gpus.ts";
import { count } from "../../model/estimate/what_fits.ts";
import type { FamilyModel } from "../../model/family.ts";
import { workOf } from "../../model/estimate/work_of.ts";
import type { ClipSize } from "../../model/video_size.ts";
import type { WeightDtypeChoice } from "../../model/weights/weight_dtype.ts";

/** What a clip of a model needs on this adapter, with the model's steps and guidance, and full attention. */
export interface ClipNeeds extends ClipSize {
  readonly precision: Precision;
  /** Bytes of GPU memory at the highest peak, by where the weights are; absent where it cannot run so. */
  readonly memory: Readonly<Partial<Record<WeightsPlace, number>>>;
  /** About how many seconds it takes, where the adapter's rates are known. */
  readonly seconds?: number;
}

/** The sizes that people make with large models. */
const USUAL = [{ width: 832, height: 480 }, { width: 1280, height: 720 }];
const MOST_SIZES = 3;

/** Counts the memory of clips of some sizes, in the precision that is used and in int8, and estimates their time. */
export async function clipNeeds(gpu: Gpu, model: FamilyModel, weightDtype: WeightDtypeChoice): Promise<ClipNeeds[]> {
  const precisions = [...new Set<Precision>([gpu.precision, ...weightDtype === "auto" ? ["int8" as const] : []])];
  const needs: ClipNeeds[] = [];
  for (const clip of sizesOf(model)) {
    for (const precision of precisions) {
      const memory: Partial<Record<WeightsPlace, number>> = {};
      for (const weights of ["resident", "stream"] as const) {
        const counted: CountedClip = { ...clip, ...{ weights, weightDtype, pictures: false } };
        const guided = { ...counted, guidance: model.defaults.guidance };
        const bytes = await count(gpu, model, guided, { precision, memoryLimit: Infinity }).then(peakOf, (error) => {
          if (!(error instanceof TilereelError)) throw error;
        });
        if (bytes !== undefined) memory[weights] = bytes;
      }
      const seconds = secondsOf(gpu, model, clip, precision);
      needs.push({ ...clip, precision, memory, ...seconds !== undefined && { seconds } });
    }
  }
  return needs;
}

/** The model's default, those that it was trained on, and of large models the usual ones. */
function sizesOf({ defaults, family: { multiples: { side } } }: FamilyModel): ClipSize[] {
  const { width, height, frames, trained = [] } = defaults, isLarge = width * height >= 640 * 480;
  const usual = USUAL.filter(({ width, height }) => isLarge && width % side === 0 && height % side === 0);
  const all = [{ width, height, frames }, ...trained, ...usual.map((size) => ({ ...size, frames }))];
  return [
    ...new Map(all.map(({ width, height, frames }) => [`${width} ${height} ${frames}`, { width, height, frames }]))
      .values(),
  ].slice(0, MOST_SIZES);
}

function secondsOf(gpu: Gpu, model: FamilyModel, clip: ClipSize, precision: Precision): number | undefined {
  const known = knownGpu(gpu), { steps, guidance } = model.defaults;
  if (!known || precision === "f32") return undefined;
  const time = clipSeconds(known, workOf(model, { ...clip, steps, guidance }, 1), precision);
  return time.steps + time.decode;
}
