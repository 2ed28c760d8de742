import type { AdapterDescription } from "../../gpu/device/adapter.ts";
import type { ClipSize, FileFormat, Video } from "../../model/mod.ts";

/** Values of a form, by the names of `requestOptions`. */
export type Form = Readonly<Record<string, unknown>>;

/** What the page sends to its worker. */
export type Request =
  /**
   * A model, which takes the place of the one before: the address of a folder with a list of its files (see `build.ts`),
   * or files by their paths in a folder.
   */
  | {
    readonly model: string | ReadonlyMap<string, Blob>;
    readonly gpu?: {
      /** Whether kernels are tried once to find the fastest, which takes up to a minute. */
      readonly tune?: boolean;
      /** The card's memory in bytes. */
      readonly memoryLimit?: number;
    };
    /** The largest clip that the page offers. Weights are placed for it. */
    readonly largest?: ClipSize;
  }
  /** A clip to render. */
  | { readonly form: Form }
  /** A rendered clip to encode as a file. */
  | { readonly encode: Pick<Clip, "video" | "record">; readonly format: FileFormat }
  | "cancel";

/** A rendered clip. */
export interface Clip {
  readonly video: Video;
  readonly record: Readonly<Record<string, unknown>>;
  /** The share of full attention's pairs that were computed. */
  readonly density: number;
  /** The branch of each head, where heads are routed: [steps][layers][heads]. */
  readonly routes?: readonly (readonly Uint8Array[])[];
  /** The time of rendering, with loading the model where it was not loaded. */
  readonly seconds: number;
}

/** What the worker posts. */
export type Answer =
  /** The adapter, when it is opened. */
  | { readonly adapter: AdapterDescription; readonly precision: string }
  /** From 0 to 1, and what is being done. */
  | { readonly progress: number; readonly stage: string; readonly done: number; readonly total: number }
  /** The clip so far, small. */
  | { readonly preview: Video }
  /** What may disappoint, in a clause. */
  | { readonly note: string }
  | { readonly clip: Clip }
  | { readonly file: Uint8Array<ArrayBuffer>; readonly format: FileFormat }
  | { readonly error: string };
