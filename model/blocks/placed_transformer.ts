import { OutOfMemoryError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import type { VideoTransformer } from "../family.ts";
import type { WeightsChoice, WeightsPlace, WeightsPlacement } from "./weights_place.ts";

/** How a transformer is loaded, and where. */
export interface Loading {
  readonly choice: WeightsChoice;
  /** Decides where its blocks are kept; see `placeWeights`. */
  placed(choice: WeightsChoice): WeightsPlacement;
  load(place: WeightsPlace): Promise<VideoTransformer>;
}

/** A transformer whose blocks are where they fit: if memory runs out, they are streamed, unless they were to be resident. */
export class PlacedTransformer implements Disposable {
  private constructor(
    private readonly gpu: Gpu,
    private readonly loading: Loading,
    private current: { readonly placement: WeightsPlacement; readonly transformer?: VideoTransformer },
  ) {}

  /** @throws {TilereelError} as `FamilyModel.loadTransformer` does */
  static async load(gpu: Gpu, loading: Loading): Promise<PlacedTransformer> {
    const placement = loading.placed(loading.choice), placed = new PlacedTransformer(gpu, loading, { placement });
    try {
      const transformer = await loading.load(placement.place);
      placed.current = { placement, transformer };
      // Refused memory is reported late.
      await gpu.finish();
    } catch (thrown) {
      const error = await gpu.causeOf(thrown);
      if (!(error instanceof OutOfMemoryError) || !await placed.stream("they did not fit the GPU's memory")) {
        placed[Symbol.dispose]();
        throw error;
      }
    }
    return placed;
  }

  get placement(): WeightsPlacement {
    return this.current.placement;
  }

  get transformer(): VideoTransformer {
    if (!this.current.transformer) throw new Error("the transformer is not loaded");
    return this.current.transformer;
  }

  /** Whether blocks are streamed where memory runs out. */
  get canStream(): boolean {
    return this.current.placement.place !== "stream" && this.loading.choice === "auto";
  }

  /**
   * Call this after memory ran out and all that the failed work made was freed. From then on, blocks are streamed.
   *
   * @param why a clause
   * @returns false if they are already, were to be resident, or the device cannot be used any more
   * @throws {TilereelError} as {@link load} does
   */
  async stream(why: string): Promise<boolean> {
    const { gpu, loading } = this;
    if (!this.canStream) return false;
    // What was refused may be one of the weights.
    this[Symbol.dispose]();
    if (!await gpu.recover()) return false;
    gpu.trim();
    const streamed = { ...loading.placed("stream"), why };
    this.current = { placement: streamed, transformer: await loading.load("stream") };
    return true;
  }

  [Symbol.dispose](): void {
    this.current.transformer?.[Symbol.dispose]();
    this.current = { placement: this.current.placement };
  }
}
