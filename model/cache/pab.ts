/**
 * PAB, pyramid attention broadcast (arXiv 2408.12588): outputs of attention modules are used again in later steps. VORTA
 * combines it with sparse attention.
 *
 * @module
 */
import { castInto } from "../../gpu/ops/cast.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { perPass, type Slot } from "./pass_state.ts";
import type { AttentionModule, StepCache } from "./step_cache.ts";

/** The default settings: as VORTA combines PAB. Its number for attention to the text is not known; 6 is ours. */
export const PAB_DEFAULTS = { self: 2, cross: 6, between: [100, 800] } as const;

/** Settings of PAB. All defaults are in {@link PAB_DEFAULTS}. */
export interface PabOptions {
  /** Self-attention is computed at every step whose index is a multiple of this. */
  readonly self?: number | undefined;
  /** The same of attention to the text, in families that have it apart. */
  readonly cross?: number | undefined;
  /** Outputs are used again only at timesteps between these two. */
  readonly between?: readonly [low: number, high: number] | undefined;
}

/**
 * Pyramid attention broadcast. An attention module's output is computed anew at the first step, at every n-th, and
 * outside a range of timesteps. Elsewhere the last one is used again. Each pass counts its own steps; diffusers' hook
 * counts calls, and so mixes the passes of guidance. Where operands are in f16, kept outputs are, too.
 */
export function pyramidAttentionBroadcast(options: PabOptions = {}): StepCache {
  const { self = PAB_DEFAULTS.self, cross = PAB_DEFAULTS.cross, between = PAB_DEFAULTS.between } = options;
  const every = { self, cross };
  return {
    tensors: ({ layers, crossAttention }, f16) => {
      const modules = Number(self > 1) + Number(cross > 1 && crossAttention === true);
      return modules * layers / (f16 ? 2 : 1);
    },
    prepare: (task) => {
      const { gpu, timesteps } = task, [low, high] = between;
      /** Whether a module's output may be used again at a step. */
      const repeats = (step: number, module: AttentionModule) => {
        const timestep = timesteps[step];
        return timestep !== undefined && step % every[module] !== 0 && low < timestep && timestep < high;
      };
      return Promise.resolve(perPass(task, (slot) => {
        const kept = new Map<string, Slot>();
        return (step) => ({
          attention: (layer, module, compute) => {
            const name = `${module} ${layer}`, known = kept.get(name) ?? slot();
            kept.set(name, known);
            if (known.tensor && repeats(step, module)) return widened(gpu, known.tensor);
            known.clear();
            const output = compute();
            if (repeats(step + 1, module)) known.set(narrowed(gpu, output));
            return output;
          },
        });
      }));
    },
  };
}

/** A copy to keep, in the precision of operands. */
function narrowed(gpu: Gpu, x: Tensor): Tensor {
  const y = gpu.tensor(x.shape, gpu.f16 ? "f16" : "f32");
  if (gpu.f16) castInto(gpu, x, y, gpu.clampCounter("an attention output that a step cache keeps"));
  else gpu.copy(x, y);
  return y;
}

function widened(gpu: Gpu, x: Tensor): Tensor {
  if (!gpu.f16) return x;
  const y = gpu.tensor(x.shape);
  castInto(gpu, x, y, 0);
  return y;
}
