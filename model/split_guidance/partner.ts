/**
 * Guidance in two processes. A step's two passes are independent, so one can be computed elsewhere: by an assistant with
 * a GPU of its own, which is given the latents of each step and gives back its prediction.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import type { SparedWork } from "../cache/step_cache.ts";
import type { HostConditioning } from "../conditioning.ts";
import type { ClipSize } from "../video_size.ts";

/** The pass that an assistant computes: an index into the passes of a step. It is that of the negative prompt. */
export const DISTANT = 1;

/** Someone who computes the pass of the negative prompt. */
export interface GuidancePartner {
  /** Names it in notes: "the assistant at localhost:8643". */
  readonly name: string;
  /**
   * How many milliseconds an answer may take beyond three times the pass that is computed here. Then the clip goes on
   * alone. Default: {@link PATIENCE}
   */
  readonly patience?: number | undefined;
  /**
   * Asks it to prepare for a clip.
   *
   * @throws {PartnerLostError} if it cannot be reached any more: the clip is made without it
   * @throws {TilereelError} if it refuses, because it would not compute the same: the clip is not made
   */
  begin(clip: SplitClip, signal?: AbortSignal): Promise<DistantPass>;
}

/** {@link GuidancePartner.patience}, by default. */
export const PATIENCE = 60_000;

/** What a partner is to know of a clip, beside its attention and its step cache. */
export interface SplitClip {
  readonly size: ClipSize;
  /** Of the latents: [1, channels, latent frames, height, width] */
  readonly shape: readonly number[];
  /** The number of valid kept tokens of each pass. */
  readonly lengths: readonly number[];
  /** Of all steps. */
  readonly timesteps: readonly number[];
  /** The share of noise before each step, and 0 after the last. */
  readonly sigmas: readonly number[];
  /** Of the pass {@link DISTANT}. */
  readonly conditioning: HostConditioning;
}

/** A pass of a clip's steps that a partner computes. Disposing of it tells the partner that the clip needs no more. */
export interface DistantPass extends Disposable {
  /**
   * Predicts the velocity of a step. Steps come in order.
   *
   * @param latents in the clip's shape
   * @throws {PartnerLostError} if the partner has gone or cannot go on: the rest of the clip is made without it
   */
  velocity(step: number, latents: Float32Array): Promise<DistantVelocity>;
  /**
   * Waits until the latents of the last question have left this process, or never will. The pass that is computed here is
   * recorded after that: it would keep them from leaving. Default: they leave at once
   */
  sent?(): Promise<void>;
}

/** A partner's prediction. */
export interface DistantVelocity {
  /** In the clip's shape. */
  readonly velocity: Float32Array;
  /** The layers whose self-attention was run. */
  readonly layers: readonly number[];
  /** What its step cache has spared in the clip until now. */
  readonly spared?: SparedWork | undefined;
}

/** A partner cannot be reached, or cannot go on. Nothing is lost but its help. */
export class PartnerLostError extends TilereelError {}
