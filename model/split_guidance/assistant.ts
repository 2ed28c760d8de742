import { OutOfMemoryError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import type { PlacedTransformer } from "../blocks/placed_transformer.ts";
import type { WeightsPlacement } from "../blocks/weights_place.ts";
import { uploadConditioning } from "../conditioning.ts";
import type { FamilyModel } from "../family.ts";
import { PASS_NAMES } from "../guidance.ts";
import { denoisingWork, loadTransformer } from "../load_transformer.ts";
import type { GenerateOptions, LoadOptions } from "../pipeline.ts";
import { tensorsOf } from "../prompt_encoder.ts";
import { type StepPass, StepPasses } from "../step_passes.ts";
import { openWeightOptions } from "../weights/weight_options.ts";
import { check, checkSplitClip } from "./check_split_clip.ts";
import { DISTANT, type DistantPass, type DistantVelocity, type SplitClip } from "./partner.ts";

const OUT_OF_MEMORY = "GPU memory ran out";

/** Options of {@link GuidanceAssistant.of}. */
export type AssistantOptions = Pick<
  LoadOptions,
  "gpu" | "weights" | "clips" | "weightDtype" | "adjust" | "onProgress" | "signal"
>;

/** How an assistant computes a clip's pass: as whoever asks does. */
export type AssistedOptions = Pick<GenerateOptions, "attention" | "cache" | "onNote">;

/** The other end of split guidance: a model's transformer alone, which computes one pass of each step. */
export class GuidanceAssistant implements Disposable {
  private constructor(
    private readonly gpu: Gpu,
    readonly model: FamilyModel,
    private readonly placed: PlacedTransformer,
    private readonly owned: DisposableStack,
  ) {}

  /**
   * Loads an opened model's transformer. The model is taken over.
   *
   * @throws {TilereelError} if a weight is missing or does not fit, or memory runs out
   */
  static async of(model: FamilyModel, options: AssistantOptions): Promise<GuidanceAssistant> {
    const { gpu, clips, signal } = options;
    using loaded = new DisposableStack();
    loaded.use(model);
    const work = denoisingWork(gpu, model, clips);
    const { of: weightOptions } = loaded.use(await openWeightOptions(gpu, model.family, options));
    signal?.throwIfAborted();
    const placed = loaded.use(await loadTransformer(model, weightOptions, work, options));
    signal?.throwIfAborted();
    return new GuidanceAssistant(gpu, model, placed, loaded.move());
  }

  /** Where the transformer's blocks lie, why there, and in which formats. */
  get weights(): WeightsPlacement {
    return this.placed.placement;
  }

  /**
   * Prepares for a clip. Where memory runs out, weights are read from disk block by block from then on.
   *
   * @throws {TilereelError} if the clip does not fit the model, or memory runs out
   */
  async begin(clip: SplitClip, options: AssistedOptions = {}): Promise<DistantPass> {
    checkSplitClip(this.model, clip);
    const pass = new AssistedPass(this.gpu, this.model, this.placed, clip, options);
    await pass.prepare();
    return pass;
  }

  [Symbol.dispose](): void {
    this.owned.dispose();
    this.gpu.trim();
  }
}

/** The distant pass of a clip, where it is computed. */
class AssistedPass implements DistantPass {
  #running: { readonly passes: StepPasses; readonly pass: StepPass; readonly held: DisposableStack } | undefined;

  constructor(
    private readonly gpu: Gpu,
    private readonly model: FamilyModel,
    private readonly placed: PlacedTransformer,
    private readonly clip: SplitClip,
    private readonly options: AssistedOptions,
  ) {}

  async prepare(): Promise<void> {
    await this.#frugally(() => this.#prepared(), 0);
  }

  async velocity(step: number, latents: Float32Array): Promise<DistantVelocity> {
    return await this.#frugally(() => this.#velocity(step, latents), step);
  }

  [Symbol.dispose](): void {
    this.#running?.held.dispose();
    this.#running = undefined;
  }

  /** Does work of a step; where memory runs out, once more with weights from disk. */
  async #frugally<T>(work: () => Promise<T>, step: number): Promise<T> {
    try {
      return await work();
    } catch (thrown) {
      const error = await this.gpu.causeOf(thrown), { cache, onNote } = this.options;
      this[Symbol.dispose]();
      // What a step cache has kept cannot be made again.
      if (!(error instanceof OutOfMemoryError) || cache && step > 0) throw error;
      if (!await this.placed.stream(OUT_OF_MEMORY)) throw error;
      onNote?.(`${OUT_OF_MEMORY}, so the weights are read from disk in each step from now on`);
      return await work();
    }
  }

  async #velocity(step: number, latents: Float32Array): Promise<DistantVelocity> {
    const { gpu, clip } = this, { passes, pass } = await this.#prepared();
    using owned = new TensorOwner(gpu);
    const sample = owned.adopt(gpu.upload(latents, clip.shape));
    await passes.compileAhead(sample, pass.conditioning, step);
    const [velocity] = owned.adopt(await passes.predict(step, sample, [pass]));
    return { velocity: await gpu.read(velocity!), ...passes.work(step, DISTANT) };
  }

  async #prepared() {
    if (this.#running) return this.#running;
    const { gpu, model, clip, options, placed: { transformer } } = this, { shape, lengths, timesteps, sigmas } = clip;
    using held = new DisposableStack();
    const conditioning = uploadConditioning(gpu, clip.conditioning);
    held.use(new TensorOwner(gpu)).adopt(tensorsOf(conditioning));
    // The tokens of both passes are the same but for the length of their texts.
    const { length: _, ...layout } = transformer.layout(shape, conditioning);
    check(lengths.every((length) => length <= layout.kept), "the lengths");
    const passes = held.use(
      await StepPasses.prepare({
        ...{ gpu, model, transformer, names: PASS_NAMES, layout, lengths, timesteps, sigmas },
      }, options),
    );
    return this.#running = { passes, pass: { pass: DISTANT, conditioning }, held: held.move() };
  }
}
