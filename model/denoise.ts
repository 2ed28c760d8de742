import { NotFiniteError } from "../gpu/common/errors.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { combine } from "../gpu/ops/combine.ts";
import { nonFiniteIn } from "../gpu/ops/count_non_finite.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { TensorOwner } from "../gpu/tensor_owner.ts";
import { distilledAttention } from "./vsa/methods.ts";
import { fullAttention } from "./attention/full.ts";
import { product } from "./attention/grid.ts";
import type { PreparedAttention, SelfAttention } from "./attention/method.ts";
import { CountedCache } from "./cache/counted_cache.ts";
import type { Conditioning, FamilyModel, ForwardPass, VideoTransformer } from "./family.ts";
import { type GuidedPass, weightAt } from "./guidance.ts";
import { withFirstFrames } from "./known_frames.ts";
import { normalNumbers } from "./noise.ts";
import type { GenerateOptions } from "./pipeline.ts";
import type { Scheduler } from "./schedulers/scheduler.ts";

/** One of a step's passes, with what it is conditioned on. */
export interface ConditionedPass extends GuidedPass {
  readonly conditioning: Conditioning;
}

/** Up to so many steps, all count what is clamped: kernels that do not count would have to be compiled, too. */
const FEW_STEPS = 4;

/** The latents to denoise, and the model that denoises them. */
export interface DenoisingTask {
  readonly gpu: Gpu;
  readonly model: Pick<FamilyModel, "family" | "shape" | "distilled">;
  readonly transformer: VideoTransformer;
  /** Of the latents: [1, channels, latent frames, height, width] */
  readonly shape: readonly number[];
  /** The passes of each step. Their tensors are the caller's. */
  readonly passes: readonly ConditionedPass[];
  readonly scheduler: Scheduler;
}

/**
 * Walks from noise to clean latents, step by step.
 *
 * @returns latents of {@link DenoisingTask.shape}, f32; the caller's
 * @throws {TilereelError} if the attention does not fit the model, weights cannot be read, or memory runs out
 * @throws the signal's reason, if it is aborted
 */
export async function denoise(task: DenoisingTask, options: GenerateOptions): Promise<Tensor> {
  const { gpu, model, transformer, shape, passes, scheduler } = task,
    { onProgress, onStep, onPreview, signal } = options;
  const layouts = passes.map(({ conditioning }) => transformer.layout(shape, conditioning));
  using attention = await (options.attention ?? distilledAttention(model.distilled) ?? fullAttention).prepare({
    gpu,
    shape: transformer.shape,
    family: model.family,
    layout: layouts[0]!,
    lengths: layouts.map(({ kept, length = kept }) => length),
    timesteps: [...scheduler.timesteps],
    timeEmbedding: (timesteps) => transformer.timeEmbedding(timesteps),
    sigmas: options.sigmas,
    onNote: options.onNote,
  });
  using cache = await options.cache?.prepare({
    gpu,
    model,
    passes: passes.map(({ name }) => name),
    timesteps: [...scheduler.timesteps],
    sigmas: [...scheduler.sigmas],
    gridTokens: product(layouts[0]!.grid),
  });
  const counted = cache && new CountedCache(cache, transformer.shape);
  const run: StepMeans = { attention, cache: counted, ran: new Set() };
  // Owns the latents, the velocities, and what the stepper keeps.
  using owned = new TensorOwner(gpu);
  const draw = normalNumbers(options.seed ?? 0);
  const stepper = scheduler.start<Tensor>({
    combine: (terms) => owned.adopt(combine(gpu, terms)),
    noise: () => owned.adopt(noiseOn(gpu, shape, draw)),
    release: (tensor) => owned.free(tensor),
  });
  const total = scheduler.timesteps.length;
  let latents = owned.adopt(
    options.latents ? noiseOn(gpu, shape, () => options.latents!.data) : noiseOn(gpu, shape, draw),
  );
  // The GPU is never left without work: a step is under way while the next is recorded. Two are not, or progress and
  // Ctrl-C would come late.
  let underWay: Promise<void> | undefined;
  onProgress?.({ stage: "denoise", done: 0, total });
  signal?.throwIfAborted();
  for (let step = 0; step < total; step++) {
    // Counting slows every step a little; the first and the last have the most and the least noise.
    gpu.countsClamps = total <= FEW_STEPS || step === 0 || step === total - 1;
    const sample: Tensor = latents;
    const velocity = await gpu.labelled(`step ${step + 1}`, () => stepVelocity(task, run, step, sample));
    owned.adopt(velocity);
    const clean = onPreview && owned.adopt(combine(gpu, [[1, sample], [-scheduler.sigmas[step]!, velocity]]));
    latents = stepper.step(velocity, sample);
    const recorded = gpu.finish();
    recorded.catch(() => {/* told where it is waited for, or by what came before */});
    await underWay;
    if (underWay) onProgress?.({ stage: "denoise", done: step, total });
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
  onProgress?.({ stage: "denoise", done: total, total });
  options.onAttention?.(attention.report((step, pass, layer) => run.ran.has(`${step} ${pass} ${layer}`)));
  if (counted) options.onCache?.(counted.report);
  signal?.throwIfAborted();
  const known = passes[0]!.conditioning.frames;
  return known ? withFirstFrames(gpu, latents, known) : owned.disown(latents);
}

/** The parts that compute the steps of a clip. */
interface StepMeans {
  readonly attention: PreparedAttention;
  readonly cache: CountedCache | undefined;
  /** The self-attention that was run: step, pass and layer. */
  readonly ran: Set<string>;
}

/** The velocity of one step: the weighted sum of what its passes predict, or the cache gives. The caller's. */
async function stepVelocity(
  { gpu, transformer, passes, scheduler }: DenoisingTask,
  { attention, cache, ran }: StepMeans,
  step: number,
  latents: Tensor,
): Promise<Tensor> {
  const timesteps = [scheduler.timesteps[step]!];
  // What attention uploads is freed after the step.
  using owned = new TensorOwner(gpu);
  const hooks = passes.map(({ name }) => cache?.at(step, name));
  const velocities: (Tensor | undefined)[] = [];
  for (const hook of hooks) {
    const velocity = await hook?.velocity?.(latents);
    velocities.push(velocity && owned.adopt(velocity));
  }
  const left = [...passes.keys()].filter((pass) => velocities[pass] === undefined);
  const { result: inputs, tensors } = gpu.collect(() =>
    left.map((pass): ForwardPass => {
      const { name, conditioning } = passes[pass]!, attend = attention.at(step, pass);
      const recorded: SelfAttention = (q, k, v, layer, gate) => {
        ran.add(`${step} ${pass} ${layer}`);
        return attend(q, k, v, layer, gate);
      };
      const selfAttention = Object.assign(recorded, { takesGate: attend.takesGate ?? false });
      return { latents, timesteps, conditioning, name, selfAttention, cache: hooks[pass] };
    })
  );
  owned.adopt(tensors);
  const predictions = owned.adopt(await transformer.predict(inputs));
  for (const [i, pass] of left.entries()) {
    const velocity = velocities[pass] = predictions[i]!;
    gpu.scope(() => hooks[pass]?.predicted?.(latents, velocity));
  }
  if (passes.length === 1) return owned.disown(velocities[0]!);
  return combine(gpu, passes.map((pass, i) => [weightAt(pass, timesteps[0]!), velocities[i]!]));
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
