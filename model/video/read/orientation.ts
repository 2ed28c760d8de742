import type { Picture } from "../../picture/picture.ts";

/** Exif's tag of how the camera was held. */
const ORIENTATION = 0x0112;

/** How a JPEG is to be turned, from 1 (as it is) to 8: the orientation in its Exif data, a TIFF behind "Exif\0\0". */
export function orientationOf(exif: Uint8Array | undefined): number {
  if (!exif || exif.length < 14) return 1;
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
  const tiff = view.getUint32(0) === 0x45786966 ? 6 : 0, little = view.getUint16(tiff) === 0x4949;
  const short = (at: number) => at + 2 <= exif.length ? view.getUint16(at, little) : 0;
  const start = tiff + (tiff + 8 <= exif.length ? view.getUint32(tiff + 4, little) : 0);
  for (let i = 0; i < short(start); i++) {
    const entry = start + 2 + 12 * i;
    if (short(entry) !== ORIENTATION) continue;
    const value = short(entry + 8);
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

/** A picture turned and mirrored as an orientation says. */
export function turned(picture: Picture, orientation: number): Picture {
  if (orientation === 1) return picture;
  const { width, height, rgb } = picture, isOnSide = orientation > 4;
  const size = isOnSide ? { width: height, height: width } : { width, height };
  const mirrorsX = [2, 3, 7, 8].includes(orientation), mirrorsY = [3, 4, 6, 7].includes(orientation);
  const out = new Uint8Array(rgb.length);
  for (let y = 0, to = 0; y < size.height; y++) {
    for (let x = 0; x < size.width; x++, to += 3) {
      const [across, down] = isOnSide ? [y, x] : [x, y];
      const from = ((mirrorsY ? height - 1 - down : down) * width + (mirrorsX ? width - 1 - across : across)) * 3;
      out.set(rgb.subarray(from, from + 3), to);
    }
  }
  return { ...size, rgb: out };
}
