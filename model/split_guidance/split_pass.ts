import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { readConditionings } from "../conditioning.ts";
import type { Conditioning } from "../family.ts";
import type { GenerateOptions } from "../pipeline.ts";
import type { StepPasses } from "../step_passes.ts";
import {
  DISTANT,
  type DistantPass,
  type DistantVelocity,
  PartnerLostError,
  PATIENCE,
  type SplitClip,
} from "./partner.ts";

/** The settings of a clip that decide how it is split. */
type SplitOptions = Pick<GenerateOptions, "partner" | "cache" | "onNote" | "signal">;

/** A question to the partner, which it answers while this process computes its own pass. */
export interface Asked {
  /**
   * Waits for the answer. Call this when all other work of the step is recorded.
   *
   * @returns the velocity, the caller's; undefined if there is none: then the pass is to be computed here
   * @throws the signal's reason, if it is aborted meanwhile
   */
  answer(): Promise<Tensor | undefined>;
}

/** The second pass of each step of a clip, which a partner computes as long as it can. */
export class SplitPass implements Disposable {
  #distant: DistantPass | undefined;
  /** The time of the longest pass that was computed here, in milliseconds. */
  #longest = 0;

  private constructor(
    private readonly gpu: Gpu,
    private readonly passes: StepPasses,
    private readonly options: SplitOptions,
    distant: DistantPass,
  ) {
    this.#distant = distant;
  }

  /**
   * Asks the partner of the options to help with a clip.
   *
   * @param conditionings of the passes of a step
   * @returns undefined if there is no partner, it cannot be reached, or there is nothing to split
   * @throws {TilereelError} if it refuses
   */
  static async begin(
    gpu: Gpu,
    passes: StepPasses,
    clip: Omit<SplitClip, "conditioning">,
    conditionings: readonly Conditioning[],
    options: SplitOptions,
  ): Promise<SplitPass | undefined> {
    const { partner, onNote, signal } = options, own = conditionings[DISTANT];
    if (!partner) return undefined;
    if (!own) {
      onNote?.("the model runs one pass in each step of this clip, so there is no guidance to split");
      return undefined;
    }
    const [conditioning] = await readConditionings(gpu, [own]);
    try {
      return new SplitPass(gpu, passes, options, await partner.begin({ ...clip, conditioning: conditioning! }, signal));
    } catch (error) {
      if (!(error instanceof PartnerLostError)) throw error;
      onNote?.(`${error.message}, so the clip is made without it`);
      return undefined;
    }
  }

  /**
   * Sends the latents of a step, and waits until they have left. Call this before other work of the step is recorded: they
   * would wait for it, and the partner, who begins later than this process by the time on the way, is who is waited for.
   *
   * @returns undefined if there is no partner, or none any more
   * @throws the device's error, if the latents cannot be read
   * @throws the signal's reason, if it is aborted meanwhile
   */
  async ask(step: number, latents: Tensor): Promise<Asked | undefined> {
    const distant = this.#distant;
    if (!distant) return undefined;
    const answer = distant.velocity(step, await this.gpu.read(latents));
    answer.catch(() => {/* told where it is waited for */});
    try {
      await this.#inTime(distant.sent?.());
    } catch (error) {
      return this.#goOnAlone(error);
    }
    const start = performance.now();
    return { answer: () => this.#received(step, answer, start, latents.shape) };
  }

  [Symbol.dispose](): void {
    this.#distant?.[Symbol.dispose]();
    this.#distant = undefined;
  }

  async #received(
    step: number,
    answer: Promise<DistantVelocity>,
    start: number,
    shape: readonly number[],
  ): Promise<Tensor | undefined> {
    const { gpu, passes } = this;
    await gpu.finish();
    this.#longest = Math.max(this.#longest, performance.now() - start);
    try {
      const { velocity, layers, spared } = await this.#inTime(answer);
      const wanted = shape.reduce((a, b) => a * b, 1);
      if (velocity.length !== wanted) {
        throw new PartnerLostError(`${this.#name} gave ${velocity.length} numbers in place of ${wanted}`);
      }
      passes.note(step, DISTANT, { layers, spared });
      return gpu.upload(velocity, shape);
    } catch (error) {
      return this.#goOnAlone(error);
    }
  }

  /** Gives the partner up, if the error says that it is lost. */
  #goOnAlone(error: unknown): undefined {
    if (!(error instanceof PartnerLostError)) throw error;
    const { cache, onNote } = this.options;
    onNote?.(
      `${error.message}, so the clip goes on without it` +
        (cache ? ", and may differ a little, because what the step cache had kept of its pass is lost" : ""),
    );
    this[Symbol.dispose]();
  }

  /** What the partner is waited for, unless it takes too long. */
  async #inTime<T>(answer: T): Promise<Awaited<T>> {
    const { partner, signal } = this.options, { patience = PATIENCE } = partner!;
    const ended = Promise.withResolvers<never>();
    const most = patience + 2 * this.#longest;
    const timer = setTimeout(() => {
      ended.reject(new PartnerLostError(`${this.#name} did not answer within ${Math.ceil(most / 1000)} s`));
    }, most);
    const aborted = () => ended.reject(signal!.reason);
    signal?.addEventListener("abort", aborted);
    try {
      signal?.throwIfAborted();
      return await Promise.race([answer, ended.promise]);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", aborted);
    }
  }

  get #name(): string {
    return this.options.partner!.name;
  }
}
