/** Pictures are prepared as diffusers and transformers prepare them, to the same samples as Pillow's. */
import { assertAlmostEquals, assertEquals } from "@std/assert";
import { createHash } from "node:crypto";
import { clipPixels } from "../../../model/clip/vision/pixels.ts";
import { cover, croppedShare, sizeLike } from "../../../model/picture/fit.ts";
import type { Picture } from "../../../model/picture/picture.ts";
import { resample } from "../../../model/picture/resample.ts";
import { orientationOf, turned } from "../../../model/video/read/orientation.ts";

/** Stripes, steps and a chequerboard. */
function made(width: number, height: number): Picture {
  const rgb = Uint8Array.from({ length: width * height * 3 }, (_, i) => {
    const c = i % 3, x = Math.floor(i / 3) % width, y = Math.floor(i / 3 / width);
    return (x * x * 7 + y * 13 + c * 50 + (Math.floor(x / 5) + Math.floor(y / 3)) % 2 * 120) % 256;
  });
  return { width, height, rgb };
}

const digest = ({ rgb }: Picture) => createHash("sha256").update(rgb).digest("hex").slice(0, 16);

Deno.test("pictures are scaled to the samples of Pillow 12.3", () => {
  const expected = [
    ["lanczos", 37, 23, 11, 9, "57d7330e01f7fbfc"],
    ["lanczos", 11, 9, 37, 23, "e4d330fa4b5c90db"],
    ["bicubic", 37, 23, 20, 50, "b92f755a673aedc8"],
    ["bicubic", 40, 30, 40, 12, "609726105c43c3cc"],
    ["lanczos", 8, 8, 3, 3, "de50f73525f89d3d"],
  ] as const;
  for (const [filter, width, height, to, tall, hash] of expected) {
    assertEquals(digest(resample(made(width, height), to, tall, filter)), hash, `${filter} ${to}x${tall}`);
  }
});

Deno.test("pictures cover a clip as diffusers' image processor crops them", () => {
  const expected = [
    [37, 23, 16, 16, "afe768292796f950"],
    [23, 37, 32, 16, "0243e3ef73883bb1"],
    [150, 100, 48, 32, "3a4c4eb59c490dcb"],
    [7, 5, 32, 48, "9d65839c38f526a6"],
  ] as const;
  for (const [width, height, to, tall, hash] of expected) {
    assertEquals(digest(cover(made(width, height), to, tall)), hash, `${width}x${height} to ${to}x${tall}`);
  }
  assertAlmostEquals(croppedShare(made(150, 100), 48, 32), 0);
  assertAlmostEquals(croppedShare(made(150, 100), 64, 32), 0.25);
  assertAlmostEquals(croppedShare(made(100, 150), 32, 64), 0.25);
});

Deno.test("CLIP sees pictures as transformers prepares them", () => {
  const expected = {
    "61x37": [0.1962911, 0.7511228, 1.5215802, 1.0993788, 0.2546283],
    "37x61": [0.1914631, 0.764033, 0.2661157, -0.7465766, 0.9514116],
    "20x20": [0.1805266, 0.9362032, -1.7922626, 0.0638428, 1.0651721],
  };
  for (const [name, [mean, deviation, first, middle, last]] of Object.entries(expected)) {
    const [width, height] = name.split("x").map(Number) as [number, number];
    const pixels = clipPixels([made(width, height)], 28),
      at = (c: number, y: number, x: number) => (c * 28 + y) * 28 + x;
    const found = pixels.reduce((a, b) => a + b) / pixels.length;
    assertAlmostEquals(found, mean!, 1e-5);
    assertAlmostEquals(Math.sqrt(pixels.reduce((a, b) => a + (b - found) ** 2, 0) / pixels.length), deviation!, 1e-5);
    for (const [index, value] of [[at(0, 0, 0), first], [at(1, 13, 5), middle], [at(2, 27, 27), last]] as const) {
      assertAlmostEquals(pixels[index]!, value!, 1e-5, name);
    }
  }
});

Deno.test("a clip has the proportions of its picture, and the model's area", () => {
  assertEquals(sizeLike({ width: 4000, height: 3000 }, 832 * 480, 16), { width: 720, height: 544 });
  assertEquals(sizeLike({ width: 480, height: 832 }, 832 * 480, 16), { width: 480, height: 832 });
  assertEquals(sizeLike({ width: 1000, height: 1000 }, 1280 * 704, 32), { width: 928, height: 928 });
  assertEquals(sizeLike({ width: 10_000, height: 1 }, 1024, 32), { width: 3200, height: 32 });
});

Deno.test("pictures are turned as the camera was held", () => {
  // A TIFF of one entry behind "Exif", big and little-endian.
  const exif = (orientation: number, little: boolean) => {
    const bytes = new Uint8Array(40), view = new DataView(bytes.buffer);
    bytes.set(new TextEncoder().encode("Exif\0\0" + (little ? "II" : "MM")));
    view.setUint16(8, 42, little);
    view.setUint32(10, 8, little);
    view.setUint16(14, 1, little);
    for (const [at, value] of [[16, 0x112], [18, 3], [24, orientation]] as const) view.setUint16(at, value, little);
    view.setUint32(20, 1, little);
    return bytes;
  };
  for (const little of [true, false]) {
    assertEquals([1, 3, 6, 8, 9].map((n) => orientationOf(exif(n, little))), [1, 3, 6, 8, 1]);
  }
  assertEquals([orientationOf(undefined), orientationOf(new Uint8Array(3)), orientationOf(new Uint8Array(20))], [
    1,
    1,
    1,
  ]);
  // Grey pixels 1 to 6 in two rows; 6: the top of the picture is at its right, as when a phone is held upright.
  const grey = (numbers: number[], width: number): Picture => ({
    ...{ width, height: numbers.length / width },
    rgb: Uint8Array.from(numbers.flatMap((n) => [n, n, n])),
  });
  const picture = grey([1, 2, 3, 4, 5, 6], 3);
  const numbers = ({ rgb }: Picture) => [...rgb].filter((_, i) => i % 3 === 0);
  const expected: Record<number, number[]> = {
    ...{ 1: [1, 2, 3, 4, 5, 6], 2: [3, 2, 1, 6, 5, 4], 3: [6, 5, 4, 3, 2, 1], 4: [4, 5, 6, 1, 2, 3] },
    ...{ 5: [1, 4, 2, 5, 3, 6], 6: [4, 1, 5, 2, 6, 3], 7: [6, 3, 5, 2, 4, 1], 8: [3, 6, 2, 5, 1, 4] },
  };
  for (const [orientation, all] of Object.entries(expected)) {
    assertEquals(numbers(turned(picture, Number(orientation))), all, orientation);
  }
  assertEquals(turned(picture, 6).width, 2);
});
