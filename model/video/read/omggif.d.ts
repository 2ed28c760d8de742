/** The part of omggif that is used; the package has no types of its own. */
export interface FrameInfo {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  /** Hundredths of a second. */
  readonly delay: number;
  /** What becomes of the frame before the next is drawn: 2, its rectangle is cleared; 3, what it covered comes back. */
  readonly disposal: number;
}
declare class GifReader {
  constructor(bytes: Uint8Array);
  readonly width: number;
  readonly height: number;
  numFrames(): number;
  loopCount(): number | null;
  frameInfo(index: number): FrameInfo;
  /** Draws a frame over `pixels`, [height, width, 4], leaving what is transparent in it. */
  decodeAndBlitFrameRGBA(index: number, pixels: Uint8Array): void;
}
declare const omggif: { GifReader: typeof GifReader };
export default omggif;
