/**
 * Shapes of Wan's transformers at the clips that benchmarks time, and a small one for software adapters.
 *
 * @module
 */
import type { TransformerConfig } from "../model/wan/config.ts";
import type { Grid } from "../model/attention/grid.ts";

/** A transformer, and what it is given. */
export interface WanShape {
  /** In words. */
  readonly clip: string;
  readonly config: TransformerConfig;
  /** Tokens along frames, rows and columns. */
  readonly grid: Grid;
  readonly textTokens: number;
}

/** Names of the shapes, as options take them. */
export const SHAPE_NAMES = ["small", "1.3b", "14b"] as const;
export type ShapeName = (typeof SHAPE_NAMES)[number];

/** The shapes by name. */
export const WAN_SHAPES: Readonly<Record<ShapeName, WanShape>> = {
  small: {
    clip: "a small model, 13 frames of 256x128",
    config: config({ heads: 4, headDim: 32, ffnDim: 256, layers: 2, textDim: 64 }),
    grid: [4, 8, 16],
    textTokens: 16,
  },
  "1.3b": {
    clip: "Wan 1.3B, 81 frames of 832x480",
    config: config({ heads: 12, headDim: 128, ffnDim: 8960, layers: 30, textDim: 4096 }),
    grid: [21, 30, 52],
    textTokens: 512,
  },
  "14b": {
    clip: "Wan 14B, 81 frames of 1280x720",
    config: config({ heads: 40, headDim: 128, ffnDim: 13824, layers: 40, textDim: 4096 }),
    grid: [21, 45, 80],
    textTokens: 512,
  },
};

type Widths = Pick<TransformerConfig, "heads" | "headDim" | "ffnDim" | "layers" | "textDim">;

/** What all of Wan's text-to-video transformers share. */
function config(widths: Widths): TransformerConfig {
  return {
    ...widths,
    dim: widths.heads * widths.headDim,
    patchSize: [1, 2, 2],
    inChannels: 16,
    outChannels: 16,
    freqDim: 256,
    crossAttnNorm: true,
    eps: 1e-6,
    ropeMaxSeqLen: 1024,
  };
}
