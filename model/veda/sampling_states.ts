/**
 * What Veda learns from: queries and keys of every layer, as they come up when the model samples clips from prompts
 * with full attention.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { attention } from "../../gpu/ops/attention.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { AttentionMethod } from "../attention/method.ts";
import type { GenerateOptions, WanPipeline } from "../pipeline.ts";
import { embedTexts } from "../training/embed_texts.ts";
import type { SampledClip } from "../training/sampled_set.ts";
import type { OnProgress } from "../progress.ts";
import type { Grid } from "../wan/grid.ts";

/** One layer's full attention. The tensors are the forward pass's: they are gone when it goes on. */
export interface AttentionState {
  /** [1, tokens, heads · head dim], after norm and RoPE; so k, v, y */
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  /** Its output. */
  readonly y: Tensor;
  /** [1, tokens, heads]: log-sum-exp of each query's scores */
  readonly lse: Tensor;
  readonly layer: number;
  readonly grid: Grid;
  /** Denoising step of the run, from 0. */
  readonly step: number;
  /** 0 with the prompt; 1 with the negative prompt, where there is guidance. */
  readonly pass: number;
}

/** How much there is of heads. */
export interface HeadShape {
  readonly layers: number;
  readonly heads: number;
  readonly headDim: number;
}

/** Sampling runs that can be watched, the same however often they are run. */
export interface SamplingRuns extends HeadShape {
  /** At least one. */
  readonly count: number;
  /** Denoising steps of a run. */
  steps(run: number): number;
  /** Forward passes of a step: 2 with guidance. */
  passes(run: number): number;
  /**
   * Samples once.
   *
   * @throws the signal's reason, if it is aborted: between two steps
   */
  sample(run: number, watching: Watching): Promise<void>;
}

/** What is told of a run. */
export interface Watching {
  /** Shown every layer of every pass, while the pass is recorded: it may record work of its own, and not wait. */
  readonly onState: (state: AttentionState) => void;
  /** Called after a step, when all of it is recorded. */
  readonly onStep: (step: number) => Promise<void> | void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Full attention that shows itself. The log-sum-exps are made whether they are wanted or not, so that a run that is
 * watched is the same, bit for bit, as one that is only repeated.
 */
export function watchedAttention(onState: (state: AttentionState) => void): AttentionMethod {
  return {
    prepare: ({ gpu, grid, transformer: { config: { heads } } }) =>
      Promise.resolve({
        at(step) {
          // By layer: where blocks are streamed all passes go through one before the next.
          const passes: number[] = [];
          return (q, k, v, layer) => {
            const pass = passes[layer] = (passes[layer] ?? -1) + 1;
            const lse = gpu.tensor([q.dim(0), q.dim(1), heads]);
            const y = attention(gpu, q, k, v, { heads, lse });
            gpu.scope(() => onState({ q, k, v, y, lse, layer, grid, step, pass }));
            return y;
          };
        },
        report: { density: 1 },
        [Symbol.dispose]() {},
      }),
  };
}

/**
 * Runs of a pipeline, one a clip. The texts are embedded now, all of them, so that the text encoder's weights are read
 * once.
 *
 * @throws {TilereelError} if a text cannot be embedded
 */
export async function samplingRuns(
  gpu: Gpu,
  pipeline: WanPipeline,
  clips: readonly SampledClip[],
  onProgress?: OnProgress,
): Promise<SamplingRuns> {
  const guided = ({ guidance }: SampledClip) => guidance > 1;
  const texts = await embedTexts(
    gpu,
    clips.flatMap((clip) => [clip.prompt, ...guided(clip) ? [clip.negativePrompt] : []]),
    pipeline.defaults.textTokens,
    (some) => pipeline.encodePrompts(some, { onProgress }),
  );
  return {
    ...pipeline.headShape,
    count: clips.length,
    steps: (run) => clips[run]!.steps,
    passes: (run) => guided(clips[run]!) ? 2 : 1,
    async sample(run, { onState, onStep, signal }) {
      const { negativePrompt, scheduler, flowShift, sigmas, ...clip } = clips[run]!;
      const options: GenerateOptions = {
        ...clip,
        embeddings: {
          positive: texts.of(clip.prompt),
          ...guided(clips[run]!) && { negative: texts.of(negativePrompt) },
        },
        ...scheduler !== undefined && { scheduler },
        ...flowShift !== undefined && { flowShift },
        ...sigmas !== undefined && { sigmas },
        ...signal && { signal },
        attention: watchedAttention(onState),
        onStep: (_, step) => onStep(step),
      };
      gpu.release(await pipeline.sampleLatents(options));
    },
  };
}
