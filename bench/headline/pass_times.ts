import type { Gpu } from "../../gpu/gpu.ts";
import { measure } from "../measure.ts";
import type { TimedMethod } from "../steps/methods.ts";
import { noAttention, type TimedTransformer } from "../steps/transformer.ts";
import type { StepKind } from "./cached_steps.ts";

/** The time of a part of a forward pass. */
export interface PartTime {
  readonly part: string;
  readonly ms: number;
  readonly spread: number;
  /** How many times a pass has it. */
  readonly times: number;
}

/** The milliseconds of a forward pass. Each part is timed once, when it is first needed. */
export class PassTimes {
  readonly #known = new Map<string, number>();

  /**
   * @param blocks the number of the model's blocks of each kind; of each, one is timed
   * @param samples how often at most a part is timed after the warm-up
   * @param told of each part as soon as it is timed
   */
  constructor(
    private readonly gpu: Gpu,
    private readonly transformer: TimedTransformer,
    private readonly blocks: readonly number[],
    private readonly samples: number,
    private readonly told: (time: PartTime) => void,
  ) {}

  /** A whole pass. */
  async pass(method: TimedMethod, step?: StepKind): Promise<number> {
    return await this.outer() + await this.inBlocks((kind) => this.block(kind, method, step));
  }

  /** The sum over all blocks of the time of a block of their kind. */
  async inBlocks(ofKind: (kind: number) => Promise<number>): Promise<number> {
    let ms = 0;
    for (const [kind, count] of this.blocks.entries()) ms += count * await ofKind(kind);
    return ms;
  }

  /** What comes before and after the blocks. */
  async outer(): Promise<number> {
    return await this.#time("outside the blocks", 1, () => this.transformer.outer());
  }

  /**
   * One block. Where a step keeps outputs, the time that this takes is measured on blocks whose self-attention only
   * returns its values, because it is small beside that of self-attention.
   */
  async block(kind: number, method: TimedMethod, step?: StepKind): Promise<number> {
    if (step?.self === "reused") return await this.rest(kind, step);
    const ms = await this.#time(`${this.#nameOf(kind)}, ${method.name}`, this.blocks[kind]!, () => {
      this.transformer.block(kind, method.attend);
    });
    // Nothing is saved in such a step: a difference below 0 is noise.
    return step ? ms + Math.max(0, await this.rest(kind, step) - await this.rest(kind)) : ms;
  }

  /** One block whose self-attention, where it is computed, takes no time: it only returns its values. */
  async rest(kind: number, step?: StepKind): Promise<number> {
    const what = step?.self === "reused" ? step.name : `no self-attention${step ? `, ${step.name}` : ""}`;
    const prepare = () => step?.fill && this.transformer.block(kind, noAttention, step.fill);
    return await this.#time(`${this.#nameOf(kind)}, ${what}`, this.blocks[kind]!, () => {
      this.transformer.block(kind, noAttention, step?.hooks);
    }, prepare);
  }

  #nameOf(kind: number): string {
    return this.blocks.length === 1 ? "block" : kind === 0 ? "dual block" : "single block";
  }

  async #time(part: string, times: number, work: () => void, prepare?: () => void): Promise<number> {
    const known = this.#known.get(part);
    if (known !== undefined) return known;
    prepare?.();
    const { ms, spread } = await measure(this.gpu, work, { least: Math.min(2, this.samples), most: this.samples });
    this.#known.set(part, ms);
    this.told({ part, ms, spread, times });
    return ms;
  }
}
