import jpeg from "jpeg-js";
import { quoted, TilereelError } from "../../../gpu/common/errors.ts";
import { fileAt } from "../../files/disk.ts";
import { readBytes } from "../../files/store.ts";
import { checkPictureSize } from "../../picture/limits.ts";
import type { Picture } from "../../picture/picture.ts";
import { orientationOf, turned } from "./orientation.ts";
import { decodePng } from "./png.ts";

/**
 * What the JPEG decoder takes for a block of 8 × 8 samples, and for a pixel beside a byte for each component; and the most
 * that it may take: 8K with chroma at half size, 22 million pixels with full chroma.
 */
const BLOCK_BYTES = 720, PIXEL_BYTES = 6, MOST_DECODER_BYTES = 940e6;

/** Whether a file of that name is read by {@link readStill}. */
export function isStill(name: string): boolean {
  return /\.(png|jpe?g)$/i.test(name);
}

/**
 * Reads a PNG or JPEG. Parts that are transparent are black; 16 bits a channel are rounded to 8; a JPEG is turned as its
 * camera was held.
 *
 * @throws {TilereelError} when it cannot be read or is damaged
 */
export async function readStill(path: string): Promise<Picture> {
  const bytes = await readBytes(fileAt(path), "a picture");
  return await decodeWhole(path, bytes, /\.png$/i.test(path));
}

/**
 * As {@link readStill}, of a file whose first bytes are known; undefined if it is neither.
 *
 * @param start its first eight bytes
 */
export function decodeStill(
  path: string,
  start: Uint8Array,
  read: () => Promise<Uint8Array>,
): Promise<Picture> | undefined {
  const isPng = start[0] === 0x89 && start[1] === 0x50, isJpeg = start[0] === 0xff && start[1] === 0xd8;
  return isPng || isJpeg ? read().then((bytes) => decodeWhole(path, bytes, isPng)) : undefined;
}

async function decodeWhole(path: string, bytes: Uint8Array, isPng: boolean): Promise<Picture> {
  try {
    return isPng ? await decodePng(path, bytes) : fromJpeg(path, bytes);
  } catch (error) {
    if (error instanceof TilereelError) throw error;
    // The JPEG decoder throws errors of its own, and stumbles over values that it did not expect.
    const said = error instanceof RangeError
      ? error.message
      : error instanceof TypeError
      ? "its data make no sense"
      : quoted(reason(error));
    throw new TilereelError(`${path} is not a whole ${isPng ? "PNG" : "JPEG"}: ${said}`, { cause: error });
  }
}

function fromJpeg(path: string, bytes: Uint8Array): Picture {
  const frame = jpegFrame(bytes);
  if (frame) {
    checkPictureSize(path, frame.width, frame.height);
    if (decoderBytes(frame) > MOST_DECODER_BYTES) {
      throw new TilereelError(`${path} is too large to decode as a JPEG; make it smaller, or a PNG`);
    }
  }
  const { width, height, data, exifBuffer } = jpeg.decode(bytes, {
    ...{ useTArray: true, formatAsRGBA: false, tolerantDecoding: false },
  }) as jpeg.UintArrRet & { readonly exifBuffer?: ArrayBuffer | Uint8Array };
  return turned({ width, height, rgb: data }, orientationOf(exifBuffer && new Uint8Array(exifBuffer)));
}

/** A JPEG's frame, as its header says. */
interface JpegFrame {
  readonly width: number;
  readonly height: number;
  /** How many blocks each component has in a unit, across and down. */
  readonly components: readonly (readonly [across: number, down: number])[];
}

/** The header of a JPEG's frame, which comes before the picture. */
function jpegFrame(bytes: Uint8Array): JpegFrame | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 2; at + 10 <= bytes.length && bytes[at] === 0xff;) {
    const marker = bytes[at + 1]!;
    // Tables share this range with the headers of frames.
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      const factors = Array.from({ length: bytes[at + 9]! }, (_, i) => bytes[at + 11 + 3 * i] ?? 0);
      const components = factors.map((factor) => [factor >> 4, factor & 15] as const);
      return { height: view.getUint16(at + 5), width: view.getUint16(at + 7), components };
    }
    // Bytes between segments are filled up with these.
    at += marker === 0xff ? 1 : 2 + view.getUint16(at + 2);
  }
  return undefined;
}

function decoderBytes({ width, height, components }: JpegFrame): number {
  const most = (axis: 0 | 1) => Math.max(1, ...components.map((factors) => factors[axis]));
  const units = Math.ceil(width / 8 / most(0)) * Math.ceil(height / 8 / most(1));
  const blocks = components.reduce((sum, [across, down]) => sum + across * down * units, 0);
  return blocks * BLOCK_BYTES + width * height * (PIXEL_BYTES + components.length);
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
