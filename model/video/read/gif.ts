import { TilereelError } from "../../../gpu/common/errors.ts";
import { checkPictureSize } from "../../picture/limits.ts";
import { gifBlocks, type GifImage, gifScreen } from "../gif_blocks.ts";
import { concatenate } from "../mp4_boxes.ts";
import { decodeLzw } from "./lzw.ts";
import type { Pictures } from "./timed_picture.ts";

/** The extension that says how the image after it is shown. */
const CONTROL = 0xf9;
/** Hundredths of a second for which viewers show a frame that asks for less than two. */
const HASTY_DELAY = 10;
const CLEARED = 2, RESTORED = 3;

/** An image, and how it is shown. */
interface GifFrame extends GifImage {
  /** In hundredths of a second. */
  readonly delay: number;
  /** What becomes of its place after it was shown. */
  readonly disposal: number;
  /** The index of the colour that stands for none. */
  readonly transparent: number | undefined;
}

/**
 * The pictures of an animated GIF, as a viewer shows them once. What no frame has painted is black.
 *
 * @param path for messages
 * @throws {TilereelError} when it is damaged, or larger than pictures may be
 */
export async function* readGif(path: string, bytes: Uint8Array): Pictures & AsyncGenerator {
  const whole = <T>(read: () => T): T => {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new TilereelError(`${path} is not a whole GIF: ${error.message}`, { cause: error });
    }
  };
  const { width, height, palette } = whole(() => gifScreen(bytes));
  checkPictureSize(path, width, height);
  const frames = whole(() => framesOf(bytes));
  for (const frame of frames) checkPictureSize(path, frame.width, frame.height);
  const canvas = new Uint8Array(width * height * 3);
  let hundredths = 0;
  for (const frame of frames) {
    const before = frame.disposal === RESTORED ? canvas.slice() : undefined;
    const indices = whole(() => decodeLzw(concatenate(frame.data), frame.codeSize, frame.width * frame.height));
    paint({ canvas, width, height }, frame, indices, frame.palette.length > 0 ? frame.palette : palette);
    hundredths += frame.delay < 2 ? HASTY_DELAY : frame.delay;
    yield { end: hundredths / 100, width, height, rgb: () => canvas };
    if (before) canvas.set(before);
    if (frame.disposal === CLEARED) clear({ canvas, width, height }, frame);
  }
}

function framesOf(bytes: Uint8Array): GifFrame[] {
  const frames: GifFrame[] = [];
  let control: Pick<GifFrame, "delay" | "disposal" | "transparent"> | undefined;
  for (const block of gifBlocks(bytes)) {
    if (block.kind === "image") {
      frames.push({ ...block, ...control ?? { delay: 0, disposal: 0, transparent: undefined } });
      control = undefined;
    } else if (block.label === CONTROL && (block.data[0]?.length ?? 0) >= 4) {
      const [flags, low, high, index] = block.data[0]! as unknown as [number, number, number, number];
      control = { delay: low | high << 8, disposal: flags >> 2 & 7, transparent: flags & 1 ? index : undefined };
    }
  }
  return frames;
}

interface Canvas {
  readonly canvas: Uint8Array;
  readonly width: number;
  readonly height: number;
}

/** Paints the part of a frame that lies on the canvas. */
function paint({ canvas, width, height }: Canvas, frame: GifFrame, indices: Uint8Array, palette: Uint8Array): void {
  const columns = Math.min(frame.width, width - frame.x);
  for (const [line, row] of rowOrder(frame).entries()) {
    const y = frame.y + row;
    if (y >= height) continue;
    let from = line * frame.width, to = (y * width + frame.x) * 3;
    for (let x = 0; x < columns; x++, from++, to += 3) {
      const index = indices[from]!;
      if (index === frame.transparent) continue;
      canvas[to] = palette[3 * index] ?? 0;
      canvas[to + 1] = palette[3 * index + 1] ?? 0;
      canvas[to + 2] = palette[3 * index + 2] ?? 0;
    }
  }
}

/** The rows of a frame, in the order in which they are stored. */
function rowOrder({ height, isInterlaced }: GifFrame): readonly number[] {
  const every = (start: number, step: number) =>
    Array.from({ length: Math.max(0, Math.ceil((height - start) / step)) }, (_, i) => start + i * step);
  return isInterlaced ? [every(0, 8), every(4, 8), every(2, 4), every(1, 2)].flat() : every(0, 1);
}

function clear({ canvas, width, height }: Canvas, frame: GifFrame): void {
  const right = Math.min(width, frame.x + frame.width), bottom = Math.min(height, frame.y + frame.height);
  for (let y = frame.y; y < bottom; y++) {
    if (frame.x < right) canvas.fill(0, (y * width + frame.x) * 3, (y * width + right) * 3);
  }
}
