import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { decode as decodePng } from "fast-png";
import omggif from "omggif";
import { evenlySpaced, frameOf } from "../cli/video/frames.ts";
import { encodeGif } from "../cli/video/gif.ts";
import { encodeMp4 } from "../cli/video/mp4.ts";
import { encodeContactSheet } from "../cli/video/png.ts";
import { formatOf, writeVideo } from "../cli/video/write_video.ts";
import { TilereelError } from "../errors.ts";
import { readMp4, yuv420ToRgb } from "./h264_reader.ts";
import { movingShapes, psnr } from "./moving_shapes.ts";

Deno.test("mp4: a demuxer finds one H.264 track of the right size, length and colours", async () => {
  const video = movingShapes(128, 96, 29, 16);
  const track = await readMp4(await encodeMp4(video));
  assert(track.codec.startsWith("avc1."), track.codec);
  assertEquals([track.width, track.height, track.frames.length], [128, 96, 29]);
  assertAlmostEquals(track.seconds, 29 / 16, 0.01);
  // Primaries BT.709, transfer sRGB, matrix BT.601, limited range.
  assertEquals(track.colour, [1, 13, 6, 0]);
});

Deno.test("mp4: every decoded frame is within 35 dB of the original", async () => {
  const video = movingShapes();
  const { frames } = await readMp4(await encodeMp4(video));
  assertEquals(frames.length, video.frames);
  for (const [i, yuv] of frames.entries()) {
    const quality = psnr(yuv420ToRgb(yuv, video.width, video.height), frameOf(video, i));
    assert(quality >= 35, `frame ${i}: ${quality.toFixed(1)} dB`);
  }
});

Deno.test("mp4: other sizes and frame rates", async () => {
  const video = movingShapes(80, 48, 5, 10);
  const track = await readMp4(await encodeMp4(video));
  assertEquals([track.width, track.height, track.frames.length], [80, 48, 5]);
  assertAlmostEquals(track.seconds, 5 / 10, 0.01);
});

Deno.test("mp4: the same clip gives the same bytes at another time", async () => {
  const video = movingShapes(64, 64, 5);
  const first = await encodeMp4(video);
  // The encoder's own clock counts seconds.
  await new Promise((resolve) => setTimeout(resolve, 1100));
  assertEquals(await encodeMp4(video), first);
});

Deno.test("gif: frames, length, loop and colours", () => {
  const video = movingShapes();
  const bytes = encodeGif(video);
  const gif = new omggif.GifReader(bytes);
  assertEquals([gif.width, gif.height, gif.numFrames(), gif.loopCount()], [video.width, video.height, video.frames, 0]);
  let hundredths = 0;
  for (let i = 0; i < video.frames; i++) {
    hundredths += gif.frameInfo(i).delay;
    const rgba = new Uint8Array(video.width * video.height * 4);
    gif.decodeAndBlitFrameRGBA(i, rgba);
    const rgb = rgba.filter((_, at) => at % 4 !== 3);
    const quality = psnr(rgb, frameOf(video, i));
    assert(quality >= 35, `frame ${i}: ${quality.toFixed(1)} dB`);
  }
  assertEquals(hundredths, Math.round(video.frames * 100 / video.fps));
});

Deno.test("png: a contact sheet holds eight frames, first and last among them, exactly", () => {
  const video = movingShapes(32, 16, 29);
  const sheet = decodePng(encodeContactSheet(video));
  assertEquals([sheet.width, sheet.height], [4 * 32 + 3 * 2, 2 * 16 + 2]);
  const at = (left: number, top: number) => {
    const rows = Array.from({ length: 16 }, (_, y) => {
      const start = ((top + y) * sheet.width + left) * 3;
      return [...sheet.data.subarray(start, start + 32 * 3)];
    });
    return new Uint8Array(rows.flat());
  };
  assertEquals(at(0, 0), frameOf(video, 0).slice());
  assertEquals(at(34, 0), frameOf(video, 4).slice());
  assertEquals(at(3 * 34, 18), frameOf(video, 28).slice());
});

Deno.test("png: a clip with fewer frames makes a smaller sheet", () => {
  const sheet = decodePng(encodeContactSheet(movingShapes(32, 16, 1)));
  assertEquals([sheet.width, sheet.height], [32, 16]);
  assertEquals(evenlySpaced(5, 8), [0, 1, 2, 3, 4]);
  assertEquals(evenlySpaced(29, 8), [0, 4, 8, 12, 16, 20, 24, 28]);
});

Deno.test("frames: a folder of numbered pictures, which is not overwritten", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const video = movingShapes(32, 16, 5);
    const out = `${dir}/a/clip/`;
    const size = await writeVideo(out, video);
    const names = [...Deno.readDirSync(out)].map(({ name }) => name).sort();
    assertEquals(names, ["0001.png", "0002.png", "0003.png", "0004.png", "0005.png"]);
    const last = decodePng(await Deno.readFile(`${out}0005.png`));
    assertEquals(new Uint8Array(last.data), frameOf(video, 4).slice());
    assertEquals(size, names.reduce((sum, name) => sum + Deno.statSync(out + name).size, 0));
    await assertRejects(() => writeVideo(out, video), TilereelError, "not empty");
    assertEquals([...Deno.readDirSync(`${dir}/a`)].map(({ name }) => name), ["clip"]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("writeVideo makes folders, replaces a file, and leaves nothing else", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const video = movingShapes(32, 16, 5);
    for (const name of ["x/clip.mp4", "x/clip.gif", "x/clip.png", "x/clip.mp4"]) {
      assertEquals(await writeVideo(`${dir}/${name}`, video), Deno.statSync(`${dir}/${name}`).size);
    }
    const names = [...Deno.readDirSync(`${dir}/x`)].map(({ name }) => name).sort();
    assertEquals(names, ["clip.gif", "clip.mp4", "clip.png"]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("formatOf goes by the ending", () => {
  assertEquals(["a.mp4", "a.GIF", "b/a.png", "frames/", "a.b/"].map(formatOf), [
    "mp4",
    "gif",
    "png",
    "frames",
    "frames",
  ]);
  for (const path of ["a.avi", "a", "a.mp4/b", ".mp4"]) {
    assertThrows(() => formatOf(path), TilereelError, "does not say");
  }
});
