import type { Clip } from "../generate/clip_plan.ts";

/** OpenAI's states of a video. A cancelled one is a failed one. */
export type JobStatus = "queued" | "in_progress" | "completed" | "failed";

/** A clip that was asked for, and what became of it. Times are seconds since 1970. */
export interface Job {
  readonly id: string;
  readonly created: number;
  readonly clip: Clip;
  readonly width: number;
  readonly height: number;
  readonly frames: number;
  readonly fps: number;
  readonly status: JobStatus;
  /** Equal for clips that differ in their methods alone, such as attention: these can be compared with one another. */
  readonly scene?: string;
  readonly started?: number;
  /** How many times it was begun: again after each time that the server ended before it did. */
  readonly begun?: number;
  readonly completed?: number;
  /** Why it failed. */
  readonly error?: { readonly code: "cancelled" | "failed"; readonly message: string };
  /** What made the clip, as its file has it. */
  readonly record?: Readonly<Record<string, unknown>>;
  readonly bytes?: number;
  /** The time that the clip took, without loading the model. */
  readonly seconds?: number;
  readonly notes?: readonly string[];
  /** Of routed attention: the branch of each head as a digit, [steps][layers]. */
  readonly routes?: readonly (readonly string[])[];
  /** Whether it was asked for which tiles its heads select. */
  readonly tileMap?: boolean;
  /** Whether there is such a map. */
  readonly tiles?: boolean;
}

/** Whether nothing more will happen to it. */
export function hasEnded({ status }: Pick<Job, "status">): boolean {
  return status === "completed" || status === "failed";
}

/** Such as `video_3f2a…`: it is also the name of its files. */
export function newId(): string {
  return `video_${crypto.randomUUID().replaceAll("-", "")}`;
}

/** What {@link newId} gives. Nothing else is used as a name of a file. */
export const ID = /^video_[0-9a-f]{32}$/;
