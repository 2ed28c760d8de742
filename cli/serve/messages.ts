import type { GpuFacts } from "../../gpu/device/dry.ts";
import type { MemoryUse } from "../../gpu/memory.ts";
import type { Progress } from "../../model/progress.ts";
import type { Clip } from "../generate/clip_plan.ts";
import type { WorkshopValues } from "../generate/workshop.ts";
import type { ClipToCome } from "../../model/pipeline.ts";

/** What the server sends to its worker. The first message opens it. */
export type ToWorker =
  | { readonly open: WorkshopValues; readonly largest: ClipToCome }
  /** A clip to make. With `tileMap`, which tiles its heads select is kept in a file of that path. */
  | { readonly job: string; readonly clip: Clip; readonly tileMap?: string }
  | { readonly cancel: string };

/** What the worker posts. */
export type FromWorker =
  /** The GPU, when it begins; undefined where there is none. */
  | { readonly gpu: GpuFacts | undefined }
  | AboutJob;

/** What the worker posts about a job. */
type AboutJob =
  & { readonly job: string }
  & (
    | { readonly progress: Progress; readonly overall: number }
    | { readonly note: string }
    /** The GPU memory, when the clip is made. */
    | { readonly memory: MemoryUse }
    /** A contact sheet of the clip so far: a PNG. */
    | { readonly preview: Uint8Array<ArrayBuffer> }
    | {
      readonly made: {
        readonly record: Readonly<Record<string, unknown>>;
        readonly bytes: number;
        readonly seconds: number;
        readonly routes?: readonly (readonly string[])[];
        /** Whether there is a map of tiles. */
        readonly tiles?: boolean;
      };
    }
    | { readonly error: string; readonly bug: boolean; readonly cancelled: boolean }
  );
