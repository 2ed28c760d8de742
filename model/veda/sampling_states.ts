import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { FullAttention } from "../attention/full.ts";
import type { HeadShape, TokenLayout } from "../attention/layout.ts";
import type { AttentionMethod } from "../attention/method.ts";
import { Passes } from "../attention/passes.ts";
import type { VideoPipeline } from "../pipeline.ts";
import { embedClips, type SampledClip } from "../training/data/sampled_clip.ts";
import type { OnProgress } from "../progress.ts";

/** The full attention of one layer. The tensors belong to the forward pass and are valid only during the call. */
export interface AttentionState {
  /** [1, tokens, heads · head dim], after norm and RoPE; the same holds for k, v and y */
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  /** The output. */
  readonly y: Tensor;
  /** [1, tokens, heads]: log-sum-exp of each query's scores */
  readonly lse: Tensor;
  readonly layer: number;
  readonly layout: TokenLayout;
  /** Denoising step of the run, from 0. */
  readonly step: number;
  /** 0 for the prompt; 1 for the negative prompt, if there is guidance. */
  readonly pass: number;
}

/**
 * Veda's training data: queries and keys of every layer, while the model samples clips from prompts with full
 * attention. The runs can be observed, and are the same however often they are run.
 */
export interface SamplingRuns extends HeadShape {
  /** At least one. */
  readonly count: number;
  /** The number of denoising steps of a run. */
  steps(run: number): number;
  /** The number of forward passes of a step: 2 with guidance. */
  passes(run: number): number;
  /**
   * Runs the sampling once.
   *
   * @throws the signal's reason, if it is aborted: between two steps
   */
  sample(run: number, observer: SamplingObserver): Promise<void>;
}

/** An observer of a sampling run. */
export interface SamplingObserver {
  /** Called with every layer of every pass while the pass is recorded. It may record work of its own, but not wait. */
  readonly onState: (state: AttentionState) => void;
  /** Called after a step, when all of it is recorded. */
  readonly onStep: (step: number) => Promise<void> | void;
  readonly signal?: AbortSignal | undefined;
}

/** Full attention that reports its tensors, always with log-sum-exps: observed and repeated runs are bit-equal. */
export function observedAttention(onState: (state: AttentionState) => void): AttentionMethod {
  return {
    prepare(task) {
      const { gpu, shape, lengths } = task;
      const passes = new Passes(task, (layout) => new FullAttention(gpu, shape, layout));
      return Promise.resolve({
        at: (step, pass) => (q, k, v, layer) => {
          const lse = gpu.tensor([q.dim(0), q.dim(1), shape.heads]);
          const y = passes.of(pass).attend(q, k, v, { lse });
          const layout = { ...task.layout, length: lengths[pass]! };
          gpu.scope(() => onState({ q, k, v, y, lse, layer, layout, step, pass }));
          return y;
        },
        report: () => ({ density: 1 }),
        [Symbol.dispose]: () => passes[Symbol.dispose](),
      });
    },
  };
}

/**
 * Makes runs of a pipeline, one for each clip. Texts are embedded now, so that the text encoder is read once.
 *
 * @throws {TilereelError} if a text cannot be embedded
 */
export async function samplingRuns(
  gpu: Gpu,
  pipeline: VideoPipeline,
  clips: readonly SampledClip[],
  onProgress?: OnProgress,
): Promise<SamplingRuns> {
  const embedded = await embedClips(gpu, pipeline, clips, { onProgress });
  return {
    ...pipeline.headShape,
    count: clips.length,
    steps: (run) => clips[run]!.steps,
    passes: (run) => pipeline.passes(clips[run]!.guidance).length,
    async sample(run, { onState, onStep, signal }) {
      const latents = await pipeline.sampleLatents({
        ...embedded[run]!,
        ...signal && { signal },
        attention: observedAttention(onState),
        onStep: (_, step) => onStep(step),
      });
      gpu.release(latents);
    },
  };
}
