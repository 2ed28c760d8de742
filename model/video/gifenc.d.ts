/** The part of gifenc that is used; the package has no types of its own. */
export type Palette = number[][];
export type Format = "rgb565" | "rgb444" | "rgba4444";
export function quantize(rgba: Uint8Array, maxColors: number, options?: { format?: Format }): Palette;
export function applyPalette(rgba: Uint8Array, palette: Palette, format?: Format): Uint8Array;
export interface Encoder {
  /** `delay` is in milliseconds; `repeat: 0` means for ever. */
  writeFrame(
    index: Uint8Array,
    width: number,
    height: number,
    options: { palette?: Palette; repeat?: number; delay?: number },
  ): void;
  finish(): void;
  bytes(): Uint8Array<ArrayBuffer>;
}
export function GIFEncoder(): Encoder;
