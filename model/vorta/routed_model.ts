import type { Gpu } from "../../gpu/gpu.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { type HostConditioning, type HostTensor, uploadConditioning } from "../conditioning.ts";
import { tensorsOf } from "../prompt_encoder.ts";
import type { TokenLayout } from "../attention/layout.ts";
import type { FamilyModel, VideoTransformer } from "../family.ts";
import { conditionedBy } from "../guidance.ts";
import { VortaAttention } from "./attention.ts";
import { TRAINING_GUIDANCE } from "./recipe.ts";
import { type RouterShape, routerShape } from "./router.ts";
import { settingsFor, type SettingsOfGrids, type VortaSettings } from "./settings.ts";
import { trainingPass, type TrainingPassInput, type TrainingPassResult } from "./training_pass.ts";

/** As {@linkcode TrainingPassInput}, before it is uploaded. */
export interface RoutedPassInput
  extends Omit<TrainingPassInput, "noisy" | "target" | "conditioning" | "attention" | "keepBytes" | "settings"> {
  readonly noisy: HostTensor;
  readonly target: HostTensor;
  readonly conditioning: HostConditioning;
  readonly settings: SettingsOfGrids;
}

/** A frozen transformer whose attention is routed: the trainer's interface, with arrays in this machine's memory. */
export interface RoutedModel extends RouterShape {
  /** @returns [dim]: the input of the routers at a timestep */
  timeEmbedding(timestep: number): Promise<Float32Array>;
  /** As `trainingPass`. */
  pass(input: RoutedPassInput): Promise<TrainingPassResult>;
}

/**
 * Wraps a transformer on its GPU. The plans of attention for the sizes that it has seen stay there until it is disposed
 * of.
 *
 * @param model whose transformer it is
 * @param options as in {@link TrainingPassInput}
 */
export function routedModel(
  gpu: Gpu,
  model: Pick<FamilyModel, "passes">,
  transformer: VideoTransformer,
  options: Pick<TrainingPassInput, "keepBytes"> = {},
): RoutedModel & Disposable {
  const [guided] = model.passes(TRAINING_GUIDANCE);
  /** By the tokens' layout and the settings. */
  const plans = new Map<string, VortaAttention>();
  const planOf = (layout: TokenLayout, settings: VortaSettings) => {
    const key = JSON.stringify([layout, settings]);
    let plan = plans.get(key);
    if (!plan) plans.set(key, plan = new VortaAttention(gpu, transformer.shape, layout, settings));
    return plan;
  };
  return {
    ...routerShape(transformer.shape),
    timeEmbedding: (timestep) => transformer.timeEmbedding([timestep]),
    async pass({ noisy, target, conditioning, settings: given, ...rest }) {
      using owner = new TensorOwner(gpu);
      const upload = ({ data, shape }: HostTensor) => owner.adopt(gpu.upload(data, shape));
      const uploaded = uploadConditioning(gpu, conditionedBy(guided!, conditioning));
      owner.adopt(tensorsOf(uploaded));
      const layout = transformer.layout(noisy.shape, uploaded), settings = settingsFor(given, layout.grid);
      const attention = planOf(layout, settings);
      return await trainingPass(gpu, transformer, {
        ...{
          ...options,
          ...rest,
          settings,
          attention,
          noisy: upload(noisy),
          target: upload(target),
          conditioning: uploaded,
        },
      });
    },
    [Symbol.dispose]() {
      for (const plan of plans.values()) plan[Symbol.dispose]();
      plans.clear();
    },
  };
}
