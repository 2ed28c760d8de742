import { TilereelError } from "../../../gpu/common/errors.ts";
import { checkPictureSize } from "../../picture/limits.ts";
import type { Picture } from "../../picture/picture.ts";
import { decodePng } from "./png.ts";

/** The first bytes of a WebP that are looked at for its size. */
const HEADER = 30;

/** Whether a file that begins so is a WebP. */
export function isWebp(start: Uint8Array): boolean {
  const text = String.fromCharCode(...start.subarray(0, 12));
  return text.startsWith("RIFF") && text.endsWith("WEBP");
}

/**
 * Decodes a WebP by the decoder that Deno and browsers have, which gives its pixels as a PNG: the first picture, turned
 * as its camera was held. Parts that are transparent are black.
 *
 * @throws {TilereelError} if it is damaged, or has too many pixels
 */
export async function decodeWebp(path: string, bytes: Uint8Array<ArrayBuffer>): Promise<Picture> {
  const size = webpSize(bytes);
  if (!size) throw damaged(path);
  checkPictureSize(path, size.width, size.height);
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes], { type: "image/webp" }));
  } catch (error) {
    throw damaged(path, error);
  }
  const { width, height } = bitmap, canvas = new OffscreenCanvas(width, height);
  // A canvas without a 2D context, which Deno lacks, takes a picture as a whole.
  (canvas.getContext("bitmaprenderer") as ImageBitmapRenderingContext).transferFromImageBitmap(bitmap);
  const png = await canvas.convertToBlob({ type: "image/png" });
  return await decodePng(path, new Uint8Array(await png.arrayBuffer()));
}

/** The size that the header says, by which kind its first chunk is: lossy, lossless, or one that others follow. */
function webpSize(bytes: Uint8Array): { readonly width: number; readonly height: number } | undefined {
  if (bytes.length < HEADER) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), first = view.getUint32(12);
  const three = (at: number) => view.getUint16(at, true) | bytes[at + 2]! << 16;
  if (first === 0x56503820) {
    return { width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
  }
  if (first === 0x5650384c) {
    const bits = view.getUint32(21, true);
    return { width: (bits & 0x3fff) + 1, height: (bits >>> 14 & 0x3fff) + 1 };
  }
  return first === 0x56503858 ? { width: three(24) + 1, height: three(27) + 1 } : undefined;
}

function damaged(path: string, cause?: unknown): TilereelError {
  return new TilereelError(`${path} is not a whole WebP; copy or download it again, or make it a PNG`, { cause });
}
