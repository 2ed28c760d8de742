import { type Chunk, timeTiles } from "../../vae/chunks.ts";
import type { VaeConfig } from "./config.ts";

/** Frames of a tile, and from one tile to the next, as diffusers has them. */
const TILE_FRAMES = 16;
const TILE_STRIDE_FRAMES = 12;

/** The tiles of a clip in time: norms and attention see all frames at once, so a long clip cannot go through whole. */
export function timeTilesOf(latentFrames: number, { temporalScale }: VaeConfig): readonly Chunk[] {
  return timeTiles(latentFrames, TILE_FRAMES / temporalScale, TILE_STRIDE_FRAMES / temporalScale, temporalScale);
}
