import type { GpuFacts } from "../../gpu/device/dry.ts";
import type { ClipSize } from "../../model/video_size.ts";
import type { ClipShape } from "../../model/video/read/read_clip.ts";
import type { ClipRecord } from "../../model/video/record_text.ts";
import type { Clip } from "../generate/clip_plan.ts";
import type { ClipSettings } from "../../tools/program/clip/clip_settings.ts";
import type { WorkshopValues } from "../generate/workshop.ts";

/** What a clip costs, as far as it is known before it is made. */
export interface Cost {
  /** The share of full attention's pairs. Absent where only the GPU can say it: a router's choices. */
  readonly density?: number;
  /** Bytes of GPU memory at the highest peak, with the weights. Absent where it does not fit. */
  readonly memory?: number;
  /** Why it does not fit. */
  readonly obstacle?: string;
  /** About how many seconds, where the adapter's rates are known. */
  readonly seconds?: number;
}

/** How alike two clips are. */
export interface Likeness {
  /** Peak signal-to-noise ratio in dB; null where they are equal. */
  readonly psnr: number | null;
  /** Structural similarity, at most 1; null for pictures too small for its window. */
  readonly ssim: number | null;
}

/** A clip whose pictures were read: what a job is made of. */
export interface Planned {
  readonly settings: Pick<ClipSettings, "width" | "height" | "frames" | "fps">;
  readonly record: ClipRecord;
}

/** Work that takes the server's own thread too long: `plan` decodes pictures. */
export type SideTask =
  | { readonly task: "plan"; readonly clip: Clip; readonly pixels: number }
  | { readonly task: "cost"; readonly gpu: GpuFacts; readonly clip: Clip }
  | { readonly task: "likeness"; readonly paths: readonly [string, string]; readonly shape: ClipShape };

/** What the server sends. The first message opens the worker; the largest clip is what weights are placed for. */
export type ToSideWorker =
  | { readonly open: WorkshopValues; readonly largest: ClipSize }
  | { readonly id: number; readonly work: SideTask };

export type SideAnswer = Planned | Cost | Likeness;

/** What the worker posts for each task. */
export type FromSideWorker =
  & { readonly id: number }
  & ({ readonly answer: SideAnswer } | {
    readonly error: string;
    readonly option?: string;
    readonly bug: boolean;
  });
