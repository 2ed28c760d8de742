/**
 * The stages of a clip in their order, with the percentage of the time that each takes. This is an estimate: large
 * models take longer to load than the demo. Kernels are chosen only once on a machine, so this stage counts as 0.
 */
const SHARES = {
  "choose kernels": 0,
  "load vae": 1,
  "load transformer": 6,
  "encode prompt": 6,
  denoise: 70,
  decode: 15,
  "write file": 2,
} as const;

/** A stage of a clip. */
export type ClipStage = keyof typeof SHARES;

/** The current work, as it is shown to the user: a stage of a clip, or of other work. */
export type Stage =
  | ClipStage
  | "encode"
  | "encode image"
  | "check latents"
  | "make latents"
  | "train"
  | "sample again"
  | "search"
  | "download"
  | "convert"
  | "verify"
  | "look";

/** One report of progress. Reports of a stage start at `done: 0` and end at `done: total`. */
export interface Progress {
  readonly stage: Stage;
  /** Which part of larger work the stage belongs to: "clip 2 of 3". */
  readonly part?: string;
  /** The units that are finished. */
  readonly done: number;
  /** The units of the whole stage. */
  readonly total: number;
  /** A detail to show beside the numbers: "loss 0.82". */
  readonly detail?: string;
}

/** Receives progress. It must not throw. */
export type OnProgress = (progress: Progress) => void;

/** Passes reports on as those of a part of larger work, which may be a part itself. */
export function partOf(part: string, onProgress: OnProgress): OnProgress {
  return (told) => onProgress({ ...told, part: told.part === undefined ? part : `${part}, ${told.part}` });
}

/**
 * How much of a clip is done. This is an estimate. It falls when a stage starts again, as "encode prompt" does with
 * several text encoders.
 *
 * @param first the stage that the work begins with: "encode prompt" if the model is loaded
 * @returns from 0 (nothing) to 1 (the file is encoded); undefined for a stage that no clip has
 */
export function overall({ stage, done, total }: Progress, first: ClipStage = "load vae"): number | undefined {
  if (!Object.hasOwn(SHARES, stage)) return undefined;
  const stages = Object.entries(SHARES), at = (name: string) => stages.findIndex(([other]) => other === name);
  const share = (to?: number) => stages.slice(at(first), to).reduce((sum, [, share]) => sum + share, 0);
  const begun = share(at(stage)), own = share(at(stage) + 1) - begun;
  return (begun + own * (total > 0 ? done / total : 1)) / share();
}
