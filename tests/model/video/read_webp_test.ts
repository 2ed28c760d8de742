import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { readPicture } from "../../../model/video/read/picture.ts";
import { inTempDir } from "../../process.ts";

/** Files that libwebp wrote: 6 × 4 pixels without loss, with alpha, with an orientation; and 24 × 16 with loss. */
const FILES = {
  plain: "UklGRjAAAABXRUJQVlA4TCQAAAAvBcAAAM1lRP8Dito2YjpeR+j4c9sQpl8hgAAoaGIC/EBNPAA=",
  alpha: "UklGRkAAAABXRUJQVlA4TDMAAAAvBcAAEM1lRP9jFxH9D4liSJKk+V48s7v+bkuRANOvEEAAFDRi0jSE7zIZgeYS8D5Y/AEA",
  turned:
    "UklGRmQAAABXRUJQVlA4WAoAAAAIAAAABQAAAwAAVlA4TCQAAAAvBcAAAM1lRP8Dito2YjpeR+j4c9sQpl8hgAAoaGIC/EBNPABFWElGGgAAAE1NACoAAAAIAAEBEgADAAAAAQAGAAAAAAAA",
  lossy:
    "UklGRmgAAABXRUJQVlA4IFwAAAAQBACdASoYABAAPrVOoUmnJKOhMAgA4BaJbACdMoR3N6SAYQXDwm4nAAD+9ZjeHvibZUb3/zytBYobdS0eIuNCmiSnD2pXUKOy4u44i11OAiHmrM5I0QGfrAAAAA==",
};
/** The n-th sample of the small ones. */
const SAMPLES = Uint8Array.from({ length: 6 * 4 * 3 }, (_, n) => 3 * n);

Deno.test("WebP pictures: without and with loss, transparent, turned, damaged", () =>
  inTempDir(async (dir) => {
    const write = async (name: string, bytes: Uint8Array) => {
      await Deno.writeFile(join(dir, name), bytes);
      return await readPicture(join(dir, name));
    };
    const read = async (name: keyof typeof FILES) => await write(`${name}.webp`, Uint8Array.fromBase64(FILES[name]));
    assertEquals(await read("plain"), { width: 6, height: 4, rgb: SAMPLES });
    const blended = SAMPLES.map((value, n) => Math.round(value * 10 * Math.floor(n / 3) / 255));
    const alpha = await read("alpha");
    assert(alpha.rgb.every((value, n) => Math.abs(value - blended[n]!) <= 1), String(alpha.rgb));
    const turned = await read("turned");
    // The first row becomes the last column.
    assertEquals([turned.width, turned.height, ...turned.rgb.subarray(9, 12)], [4, 6, ...SAMPLES.subarray(0, 3)]);
    const { width, height, rgb } = await read("lossy"),
      at = (x: number, y: number) => [...rgb.subarray(3 * (24 * y + x)).subarray(0, 3)];
    // As libwebp decodes it.
    assertEquals([width, height, at(7, 5), at(23, 15)], [24, 16, [62, 76, 89], [231, 225, 93]]);
    const whole = Uint8Array.fromBase64(FILES.lossy), huge = whole.slice();
    for (const length of [20, 40, whole.length - 30]) {
      await assertRejects(() => write("cut.webp", whole.slice(0, length)), TilereelError, "is not a whole WebP");
    }
    huge.set([0xff, 0x3f, 0xff, 0x3f], 26);
    await assertRejects(() => write("huge.webp", huge), TilereelError, "has 16383x16383 pixels");
  }));
