import { NotFiniteError } from "../gpu/common/errors.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { combine } from "../gpu/ops/combine.ts";
import { nonFiniteIn } from "../gpu/ops/count_non_finite.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { TensorOwner } from "../gpu/tensor_owner.ts";
import type { HostTensor } from "./conditioning.ts";
import type { Conditioning, FamilyModel, VideoTransformer } from "./family.ts";
import { type GuidedPass, weightAt } from "./guidance.ts";
import { withFirstFrames } from "./known_frames.ts";
import { Noise } from "./noise.ts";
import type { GenerateOptions } from "./pipeline.ts";
import { partsOfState, readState, type SamplingState } from "./sampling_state.ts";
import type { Scheduler } from "./schedulers/scheduler.ts";
import { DISTANT } from "./split_guidance/partner.ts";
import { SplitPass } from "./split_guidance/split_pass.ts";
import { StepPasses } from "./step_passes.ts";
import type { ClipSize } from "./video_size.ts";

/** One of a step's passes, with what it is conditioned on. */
export interface ConditionedPass extends GuidedPass {
  readonly conditioning: Conditioning;
}

/** The latents to denoise, and the model that denoises them. */
export interface DenoisingTask {
  readonly gpu: Gpu;
  readonly model: Pick<FamilyModel, "family" | "shape" | "distilled">;
  readonly transformer: VideoTransformer;
  readonly clip: ClipSize;
  /** Of the latents: [1, channels, latent frames, height, width] */
  readonly shape: readonly number[];
  /** The passes of each step. Their tensors are the caller's. */
  readonly passes: readonly ConditionedPass[];
  readonly scheduler: Scheduler;
  /** Of the clip's seed. Default: it is drawn when it is needed */
  readonly noise?: Noise | undefined;
  /** Called once, when the first step is under way, with latents: for what this machine can do meanwhile. */
  readonly begun?: ((latents: Tensor) => void) | undefined;
}

/** Milliseconds between two states that are read, where the caller does not say. */
const STATE_INTERVAL = 1000;

/**
 * Walks from noise to clean latents, step by step, or on from a step between.
 *
 * @returns latents of {@link DenoisingTask.shape}, f32; the caller's
 * @throws {TilereelError} if the attention does not fit the model, weights cannot be read, or memory runs out
 * @throws the signal's reason, if it is aborted
 */
export async function denoise(task: DenoisingTask, options: GenerateOptions): Promise<Tensor> {
  const { gpu, model, transformer, shape, passes, scheduler } = task,
    { onProgress, onStep, onState, stateInterval = STATE_INTERVAL, onPreview, signal, resumeFrom } = options;
  const total = scheduler.timesteps.length, from = resumeFrom && partsOfState(resumeFrom, { shape, steps: total });
  const layouts = passes.map(({ conditioning }) => transformer.layout(shape, conditioning));
  const clip = {
    lengths: layouts.map(({ kept, length = kept }) => length),
    timesteps: [...scheduler.timesteps],
    sigmas: [...scheduler.sigmas],
  };
  const names = passes.map(({ name }) => name), conditionings = passes.map(({ conditioning }) => conditioning);
  using stepPasses = await StepPasses.prepare(
    { ...{ gpu, model, transformer, names, ...clip }, layout: layouts[0]!, from: from?.passes },
    options,
  );
  // A partner's step cache has state of its own, which is neither known here nor set.
  const isDivided = options.partner !== undefined && options.cache !== undefined;
  if (isDivided && from) options.onNote?.("a clip with a step cache goes on without the partner");
  using split = isDivided && from
    ? undefined
    : await SplitPass.begin(gpu, stepPasses, { size: task.clip, shape, ...clip }, conditionings, options);
  // Owns the latents, the velocities, and what the stepper keeps.
  using owned = new TensorOwner(gpu);
  const noise = task.noise ?? new Noise(options.seed ?? 0, from?.draws);
  const uploaded = ({ data }: HostTensor) => owned.adopt(noiseOn(gpu, shape, () => data));
  const stepper = scheduler.start<Tensor>(
    {
      combine: (terms) => owned.adopt(combine(gpu, terms)),
      noise: () => owned.adopt(noiseOn(gpu, shape, noise.draw)),
      release: (tensor) => owned.free(tensor),
    },
    from && {
      step: from.step,
      kept: Object.fromEntries(Object.entries(from.scheduler).map(([name, kept]) => [name, uploaded(kept)])),
    },
  );
  const begun = from?.latents ?? options.latents, first = from?.step ?? 0;
  let latents = begun ? uploaded(begun) : owned.adopt(noiseOn(gpu, shape, noise.draw));
  // The GPU is never left without work: a step is under way while the next is recorded. Two are not, or progress and
  // Ctrl-C would come late.
  let underWay: Promise<void> | undefined, state: Promise<SamplingState> | undefined;
  const start = performance.now();
  let lastRead = start;
  onProgress?.({ stage: "denoise", done: first, total });
  signal?.throwIfAborted();
  if (first < total) await stepPasses.compileAhead(latents, conditionings[0]!, first);
  signal?.throwIfAborted();
  for (let step = first; step < total; step++) {
    const sample: Tensor = latents;
    const velocity = await gpu.labelled(`step ${step + 1}`, () => stepVelocity(task, stepPasses, split, step, sample));
    owned.adopt(velocity);
    const clean = onPreview && owned.adopt(combine(gpu, [[1, sample], [-scheduler.sigmas[step]!, velocity]]));
    latents = stepper.step(velocity, sample);
    const before = state, now = performance.now();
    // Most states are never used, and to read one takes the GPU's time and this machine's.
    const isDue = now - (step + 1 === total ? start : lastRead) >= stateInterval;
    const passesKept = onState && isDue && !(isDivided && split) ? stepPasses.kept : undefined;
    if (passesKept) lastRead = now;
    state = passesKept && readState(gpu, {
      ...{ step: step + 1, steps: total, latents },
      ...{ scheduler: stepper.kept, passes: passesKept, draws: noise.draws },
    });
    const recorded = gpu.finish();
    if (step === first) task.begun?.(latents);
    for (const promise of [recorded, state]) {
      promise?.catch(() => {/* told where it is waited for, or by what came before */});
    }
    await underWay;
    if (underWay) onProgress?.({ stage: "denoise", done: step, total });
    if (before) await onState?.(await before);
    await onStep?.(latents, step);
    if (clean) {
      await onPreview?.(clean, step);
      owned.free(clean);
    }
    underWay = recorded;
    // The run never ends between the recording of a step and onStep, where tile training counts the step.
    signal?.throwIfAborted();
  }
  await underWay;
  if (underWay) onProgress?.({ stage: "denoise", done: total, total });
  if (state) await onState?.(await state);
  const { attention, cache } = stepPasses.report;
  options.onAttention?.(attention);
  if (cache) options.onCache?.(cache);
  signal?.throwIfAborted();
  const known = passes[0]!.conditioning.frames;
  return known ? withFirstFrames(gpu, latents, known) : owned.disown(latents);
}

/** The velocity of one step: the weighted sum of what its passes predict, or the cache or a partner gives. The caller's. */
async function stepVelocity(
  { gpu, passes, scheduler }: DenoisingTask,
  stepPasses: StepPasses,
  split: SplitPass | undefined,
  step: number,
  latents: Tensor,
): Promise<Tensor> {
  const all = passes.map(({ conditioning }, pass) => ({ pass, conditioning }));
  using owned = new TensorOwner(gpu);
  const asked = await split?.ask(step, latents), here = asked ? all.slice(0, DISTANT) : all;
  const velocities = owned.adopt(await stepPasses.predict(step, latents, here));
  if (asked) {
    const answer = await asked.answer();
    velocities.push(...owned.adopt(answer ? [answer] : await stepPasses.predict(step, latents, all.slice(DISTANT))));
  }
  if (passes.length === 1) return owned.disown(velocities[0]!);
  const timestep = scheduler.timesteps[step]!;
  return combine(gpu, passes.map((pass, i) => [weightAt(pass, timestep), velocities[i]!]));
}

/** Noise on the GPU. */
function noiseOn(gpu: Gpu, shape: readonly number[], draw: (count: number) => Float32Array): Tensor {
  // Room first: noise for a clip that is far too large would not even fit this machine's memory.
  const noise = gpu.tensor(shape, "f32", "the start noise");
  gpu.write(noise, draw(noise.size), 0);
  return noise;
}

/** @throws {NotFiniteError} when latents hold a NaN or an infinity: they would be decoded to an empty clip */
export async function checkFinite(gpu: Gpu, latents: Tensor): Promise<void> {
  const bad = await nonFiniteIn(gpu, latents);
  if (bad === 0) return;
  throw new NotFiniteError(
    `denoising ended in ${bad === latents.size ? "nothing but" : bad} numbers that are not finite, and no clip: ` +
      (gpu.f16 ? "try precision f32, or a lower guidance; " : "try a lower guidance; ") +
      "if that changes nothing the model's weights are damaged",
  );
}
