import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { decode as decodePng } from "fast-png";
import omggif from "omggif";
import { evenlySpaced, frameOf } from "../../../model/video/frames.ts";
import { frameRate } from "../../../model/video/frame_rate.ts";
import { encodeGif } from "../../../model/video/gif.ts";
import { encodeMp4 } from "../../../model/video/mp4.ts";
import { encodeContactSheet } from "../../../model/video/png.ts";
import { formatOf, writeVideo } from "../../../model/video/write_video.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import type { Video } from "../../../model/video/video.ts";
import { readMp4, yuv420ToRgb } from "../../h264_reader.ts";
import { movingShapes, psnr } from "../../moving_shapes.ts";

Deno.test("mp4: a demuxer finds one H.264 track of the right size, length and colours", async () => {
  const video = movingShapes(128, 96, 29, 16);
  const track = await readMp4(await encodeMp4(video));
  assert(track.codec.startsWith("avc1."), track.codec);
  assertEquals([track.width, track.height, track.frames.length], [128, 96, 29]);
  assertEquals(track.durations, new Array(29).fill(track.timescale / 16));
  // A key frame a second.
  assertEquals(track.keyFrames, Array.from({ length: 29 }, (_, i) => i % 16 === 0));
  // Constrained Baseline, level 1; frames come in order, and refer to one before.
  assertEquals([track.stream.profile, track.stream.reorder], [[66, 0xc0, 10], [0, 1]]);
});

Deno.test("mp4: the description comes before the frames, which are where it says", async () => {
  const mp4 = await encodeMp4(movingShapes(64, 48, 5), { comment: "x".repeat(1000) });
  const track = await readMp4(mp4);
  assert(track.movieAt < track.firstSampleAt, `${track.movieAt}, ${track.firstSampleAt}`);
  assertEquals(new TextDecoder("latin1").decode(mp4.subarray(track.firstSampleAt - 4, track.firstSampleAt)), "mdat");
  assertEquals(track.frames.length, 5);
});

Deno.test("mp4: file and stream name the same colours, those that players take for the size", async () => {
  // Primaries BT.709, transfer sRGB, matrix BT.601 or BT.709, limited range.
  const sizes = [[128, 96, 6], [1024, 576, 6], [480, 832, 1], [1280, 16, 1]] as const;
  for (const [width, height, matrix] of sizes) {
    const track = await readMp4(await encodeMp4(flat(width, height, [200, 40, 90])));
    assertEquals([track.colour, track.stream.colour], [[1, 13, matrix, 0], [1, 13, matrix, 0]], `${width}x${height}`);
    // By the definition of luma and of colour differences.
    const [kr, kb] = matrix === 1 ? [0.2126, 0.0722] : [0.299, 0.114];
    const y = (kr * 200 + (1 - kr - kb) * 40 + kb * 90) / 255;
    const expected = [16 + 219 * y, 128 + 112 * (90 / 255 - y) / (1 - kb), 128 + 112 * (200 / 255 - y) / (1 - kr)];
    const [yuv] = track.frames, pixels = width * height;
    for (const [plane, at] of [0, pixels, pixels * 5 / 4].entries()) {
      assertAlmostEquals(yuv![at]!, expected[plane]!, 1.5);
    }
  }
});

/** One frame of one colour. */
function flat(width: number, height: number, rgb: readonly number[]): Video {
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => rgb[i % 3]!);
  return { width, height, frames: 1, fps: 16, data };
}

Deno.test("mp4: frame rates are exact in file and stream", async () => {
  const rates = [[10, 10], [23.976, 24000 / 1001], [23.98, 24000 / 1001], [29.97, 30000 / 1001], [12.5, 12.5], [
    7.3,
    7.3,
  ]];
  for (const [fps, exact] of rates) {
    const track = await readMp4(await encodeMp4(movingShapes(32, 16, 3, fps)));
    assertEquals(track.frames.length, 3);
    for (const duration of track.durations) assertEquals(track.timescale / duration, exact);
    assertEquals(track.stream.framesPerSecond, exact);
  }
});

Deno.test("frame rates as fractions", () => {
  const fraction = (fps: number) => {
    const { timescale, frameTicks } = frameRate(fps);
    return [timescale, frameTicks];
  };
  assertEquals([24, 59.94, 12.5, 1 / 3, 15.015, 0.1].map(fraction), [
    [24000, 1000],
    [60000, 1001],
    [25000, 2000],
    [1000, 3000],
    [15_015 / 5, 200].map((n) => n * 1000),
    [1000, 10000],
  ]);
  for (let fps = 0.5; fps < 121; fps += 0.37) {
    const { timescale, frameTicks } = frameRate(fps);
    assertAlmostEquals(timescale / frameTicks, fps, 0.005);
    assert(Number.isInteger(timescale) && Number.isInteger(frameTicks) && timescale < 2 ** 31, `${fps}`);
  }
});

Deno.test("mp4: better quality takes more bytes and is closer", async () => {
  const video = movingShapes(64, 48, 5);
  const encoded = await Promise.all([1, 40, 80, 100].map(async (quality) => {
    const mp4 = await encodeMp4(video, { quality });
    return { bytes: mp4.length, psnr: psnr(yuv420ToRgb((await readMp4(mp4)).frames[4]!, 64, 48), frameOf(video, 4)) };
  }));
  for (const [i, { bytes, psnr }] of encoded.entries()) {
    if (i > 0) assert(bytes > encoded[i - 1]!.bytes && psnr > encoded[i - 1]!.psnr, JSON.stringify(encoded));
  }
  assertEquals(await encodeMp4(video, { quality: 80 }), await encodeMp4(video));
  for (const quality of [0, 101, NaN, -5]) {
    const write = () => writeVideo("clip.mp4", video, { quality });
    await assertRejects(write, TilereelError, `quality is ${quality}, but a number from 1 to 100`);
  }
});

Deno.test("mp4: every decoded frame is within 42 dB of the original", async () => {
  const video = movingShapes();
  const { frames } = await readMp4(await encodeMp4(video));
  assertEquals(frames.length, video.frames);
  for (const [i, yuv] of frames.entries()) {
    const quality = psnr(yuv420ToRgb(yuv, video.width, video.height), frameOf(video, i));
    assert(quality >= 42, `frame ${i}: ${quality.toFixed(1)} dB`);
  }
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

Deno.test("gif: a clip at any rate keeps its length", () => {
  for (const fps of [23.976, 29.97, 12.5, 7.3, 48]) {
    const gif = new omggif.GifReader(encodeGif(movingShapes(16, 16, 24, fps)));
    const delays = Array.from({ length: 24 }, (_, i) => gif.frameInfo(i).delay);
    assertEquals(delays.reduce((sum, delay) => sum + delay, 0), Math.round(24 * 100 / fps), `${fps}`);
    assert(delays.every((delay) => Math.abs(delay - 100 / fps) < 1), `${delays}`);
  }
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
