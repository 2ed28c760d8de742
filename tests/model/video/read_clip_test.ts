import { assert, assertEquals, assertRejects } from "@std/assert";
import { encode as encodePng } from "fast-png";
import jpeg from "jpeg-js";
import omggif from "omggif";
import { join } from "node:path";
import { BT601, BT709 } from "../../../model/video/colours.ts";
import { cover } from "../../../model/video/read/cover.ts";
import { ClipTooShort, readClip } from "../../../model/video/read/read_clip.ts";
import { readPicture } from "../../../model/video/read/picture.ts";
import { readStill } from "../../../model/video/read/still.ts";
import { yuv420ToRgb } from "../../../model/video/read/yuv.ts";
import { frameOf } from "../../../model/video/frames.ts";
import { writeVideo } from "../../../model/video/write_video.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import type { Video } from "../../../model/video/video.ts";
import { yuv420ToRgb as byDefinition } from "../../h264_reader.ts";
import { movingShapes, psnr } from "../../moving_shapes.ts";
import { execute, inTempDir, program } from "../../process.ts";

const FFMPEG = await execute("ffmpeg", ["-version"]).then(({ code }) => code === 0, () => false);

/** A clip whose frames are flat greys, 14 levels apart, so that each tells which it is. */
function greys(frames: number, fps: number, width = 32, height = 16): Video {
  const data = new Uint8Array(frames * width * height * 3);
  for (let i = 0; i < frames; i++) data.fill(20 + 14 * i, i * width * height * 3, (i + 1) * width * height * 3);
  return { width, height, frames, fps, data };
}

/** Which frames of {@link greys} a clip shows. */
function shown(video: Video): number[] {
  return Array.from({ length: video.frames }, (_, i) => Math.max(0, Math.round((frameOf(video, i)[0]! - 20) / 14)));
}

/** The frames on display a quarter of a frame after each frame begins. */
function expected(count: number, fps: number, sourceFps: number): number[] {
  return Array.from({ length: count }, (_, i) => Math.floor((i + 0.25) / fps * sourceFps));
}

for (const name of ["clip.gif", "clip.mp4", "clip/"]) {
  Deno.test(`${name}: the same frames come back`, () =>
    inTempDir(async (dir) => {
      const video = movingShapes(80, 48, 13), path = join(dir, name);
      await writeVideo(path, video);
      const read = await readClip(path, { width: 80, height: 48, frames: 13, fps: 16 });
      assertEquals([read.width, read.height, read.frames, read.fps], [80, 48, 13, 16]);
      if (name === "clip/") assertEquals(read.data, video.data);
      for (let i = 0; i < 13; i++) {
        const quality = psnr(frameOf(read, i), frameOf(video, i));
        assert(quality >= (name === "clip.mp4" ? 41 : 34), `frame ${i}: ${quality.toFixed(1)} dB`);
      }
      await assertRejects(
        () => readClip(path, { width: 80, height: 48, frames: 17, fps: 16 }),
        ClipTooShort,
        "is too short: it has 13 frames at 16 frames a second, but 17 are needed",
      );
    }));
}

for (const [name, rates] of Object.entries({ gif: [16, 25, 50, 10], mp4: [16, 24, 30, 60, 8] })) {
  Deno.test(`${name}: other rates are sampled by the time that a frame is shown`, () =>
    inTempDir(async (dir) => {
      for (const rate of rates) {
        const path = join(dir, `at${rate}.${name}`);
        await writeVideo(path, greys(16, rate));
        const frames = Math.floor((16 / rate - 0.25 / 16) * 16);
        const read = await readClip(path, { width: 32, height: 16, frames, fps: 16 });
        assertEquals(shown(read), expected(frames, 16, rate), `${rate} a second`);
      }
    }));
}

Deno.test("a folder's pictures are frames, by the numbers in their names, whatever the rate", () =>
  inTempDir(async (dir) => {
    const { data } = greys(12, 16, 2, 1);
    for (let i = 0; i < 12; i++) {
      const bytes = i === 4
        ? jpeg.encode({ width: 2, height: 1, data: new Uint8Array(8).fill(76) }, 100).data
        : encodePng({ width: 2, height: 1, data: data.subarray(i * 6, i * 6 + 6), channels: 3 });
      await Deno.writeFile(join(dir, i === 4 ? "frame4.JPG" : `frame${i}.png`), bytes);
    }
    await Deno.writeTextFile(join(dir, "notes.txt"), "none of them");
    const read = await readClip(dir, { width: 2, height: 1, frames: 9, fps: 24 });
    assertEquals(shown(read), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
  }));

Deno.test("mp4: sizes that are no whole macroblocks are cropped", () =>
  inTempDir(async (dir) => {
    const video = movingShapes(100, 70, 5), path = join(dir, "clip.mp4");
    await writeVideo(path, video);
    const read = await readClip(path, { width: 100, height: 70, frames: 5, fps: 16 });
    const quality = psnr(read.data, video.data);
    assert(quality >= 41, `${quality.toFixed(1)} dB`);
  }));

Deno.test("gif: parts of the picture, transparency, and what becomes of a frame", () =>
  inTempDir(async (dir) => {
    const bytes = new Uint8Array(4096);
    const writer = new omggif.GifWriter(bytes, 4, 1, { palette: [0xff0000, 0x00ff00, 0x0000ff, 0x123456] });
    const red = [255, 0, 0], green = [0, 255, 0], blue = [0, 0, 255], black = [0, 0, 0];
    // Each frame: where, its pixels (3 is transparent), and what becomes of it.
    const frames: [x: number, indices: number[], disposal: number][] = [
      [0, [0, 0, 0, 0], 1],
      [1, [1, 3], 1],
      [2, [2, 2], 3],
      [0, [2], 2],
      [3, [1], 1],
    ];
    for (const [x, indices, disposal] of frames) {
      writer.addFrame(x, 0, indices.length, 1, indices, { delay: 10, disposal, transparent: 3 });
    }
    const path = join(dir, "clip.gif");
    await Deno.writeFile(path, bytes.subarray(0, writer.end()));
    const read = await readClip(path, { width: 4, height: 1, frames: 5, fps: 10 });
    assertEquals([...Array(5).keys()].map((i) => [...frameOf(read, i)]), [
      [red, red, red, red].flat(),
      [red, green, red, red].flat(),
      [red, green, blue, blue].flat(),
      [blue, green, red, red].flat(),
      [black, green, red, green].flat(),
    ]);
  }));

Deno.test("stills: greys, transparency and 16 bits become 8-bit RGB", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "still.png");
    const read = async (data: Uint8Array | Uint16Array, channels: number, depth: 8 | 16 = 8) => {
      await Deno.writeFile(path, encodePng({ width: 2, height: 1, data, channels, depth }));
      const { width, height, rgb } = await readStill(path);
      assertEquals([width, height], [2, 1]);
      return [...rgb];
    };
    assertEquals(await read(new Uint8Array([7, 200]), 1), [7, 7, 7, 200, 200, 200]);
    assertEquals(await read(new Uint8Array([100, 255, 100, 0]), 2), [100, 100, 100, 0, 0, 0]);
    assertEquals(await read(new Uint8Array([1, 2, 3, 4, 5, 6]), 3), [1, 2, 3, 4, 5, 6]);
    assertEquals(await read(new Uint8Array([200, 100, 50, 51, 9, 8, 7, 255]), 4), [40, 20, 10, 9, 8, 7]);
    assertEquals(await read(new Uint16Array([65535, 0, 257, 128, 129, 32896]), 3, 16), [255, 0, 1, 0, 1, 128]);
  }));

Deno.test("stills: palettes and greys of few bits", { ignore: !FFMPEG }, () =>
  inTempDir(async (dir) => {
    const rgb = movingShapes(9, 5, 1).data, raw = join(dir, "raw");
    await Deno.writeFile(raw, rgb);
    for (const format of ["monob", "pal8"]) {
      const path = join(dir, `${format}.png`);
      const input = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "9x5", "-i", raw];
      await ffmpeg(...input, "-pix_fmt", format, path);
      await ffmpeg("-i", path, "-pix_fmt", "rgb24", "-f", "rawvideo", join(dir, `${format}.raw`));
      assertEquals((await readStill(path)).rgb, await Deno.readFile(join(dir, `${format}.raw`)), format);
    }
  }));

async function ffmpeg(...args: string[]): Promise<void> {
  const { code, err } = await execute("ffmpeg", ["-y", "-v", "error", ...args]);
  assertEquals(code, 0, err);
}

Deno.test("cover: scaled evenly, cropped round the centre, averaged when made smaller", () => {
  const sizes = [[7, 5, 3, 3], [8, 6, 4, 3], [5, 9, 16, 16], [12, 4, 4, 4], [3, 3, 3, 2], [31, 17, 16, 16]] as const;
  for (const [fromWidth, fromHeight, width, height] of sizes) {
    const rgb = Uint8Array.from({ length: fromWidth * fromHeight * 3 }, (_, i) => (i * 7919 + (i >> 3) * 31) % 256);
    const out = cover(rgb, fromWidth, fromHeight, width, height);
    const reference = coverReference(rgb, fromWidth, fromHeight, width, height);
    const worst = Math.max(...reference.map((value, i) => Math.abs(value - out[i]!)));
    assert(worst <= 0.501, `${fromWidth}x${fromHeight} to ${width}x${height}: ${worst}`);
  }
  const flat = new Uint8Array(30 * 20 * 3).fill(77);
  assert(cover(flat, 30, 20, 16, 16).every((value) => value === 77));
});

/** Pixel by pixel from every pixel of the picture, by the definition. */
function coverReference(rgb: Uint8Array, fromWidth: number, fromHeight: number, width: number, height: number) {
  const scale = Math.max(width / fromWidth, height / fromHeight), radius = Math.max(1, 1 / scale);
  const left = (fromWidth * scale - width) / 2, top = (fromHeight * scale - height) / 2;
  const shift = (cut: number) => scale === 1 ? Math.floor(cut) : cut;
  return Array.from({ length: width * height * 3 }, (_, i) => {
    const x = (Math.floor(i / 3) % width + 0.5 + shift(left)) / scale;
    const y = (Math.floor(i / 3 / width) + 0.5 + shift(top)) / scale;
    let sum = 0, total = 0;
    for (let v = 0; v < fromHeight; v++) {
      for (let u = 0; u < fromWidth; u++) {
        const across = Math.max(0, 1 - Math.abs(u + 0.5 - x) / radius);
        const weight = across * Math.max(0, 1 - Math.abs(v + 0.5 - y) / radius);
        total += weight;
        sum += weight * rgb[(v * fromWidth + u) * 3 + i % 3]!;
      }
    }
    return sum / total;
  });
}

Deno.test("yuv: chroma is interpolated, inside of what is shown", () => {
  const [width, height, stride, lines] = [18, 10, 32, 16];
  const random = (i: number) => (i * 7919 + (i >> 3) * 31 + 77) % 256;
  const yuv = Uint8Array.from({ length: stride * lines * 3 / 2 }, (_, i) => random(i));
  const plane = (at: number, stride: number, width: number, height: number) =>
    Array.from({ length: height }, (_, y) => [...yuv.subarray(at + y * stride, at + y * stride + width)]).flat();
  const quarter = [stride / 2, width / 2, height / 2] as const;
  const shown = Uint8Array.from([
    ...plane(0, stride, width, height),
    ...plane(stride * lines, ...quarter),
    ...plane(stride * lines * 5 / 4, ...quarter),
  ]);
  const expected = byDefinition(shown, width, height);
  const worst = Math.max(
    ...yuv420ToRgb(yuv, { stride, lines, width, height }, BT601).map((value, i) => Math.abs(value - expected[i]!)),
  );
  assert(worst <= 1, `${worst}`);
});

Deno.test("yuv: BT.709 and full range", () => {
  // Red by BT.709: Y = 0.2126, Cb = −0.2126 / 1.8556, Cr = 0.5.
  const planes = { stride: 2, lines: 2, width: 1, height: 1 };
  const levels = [0.2126, -0.2126 / 1.8556, 0.5];
  const limited = [219 * levels[0]! + 16, 224 * levels[1]! + 128, 224 * levels[2]! + 128].map(Math.round);
  const full = levels.map((level, i) => Math.min(255, Math.round(255 * level + (i > 0 ? 128 : 0))));
  for (const [[y, cb, cr], fullRange] of [[limited, false], [full, true]] as const) {
    const [r, g, b] = yuv420ToRgb(new Uint8Array([y!, y!, y!, y!, cb!, cr!]), planes, { ...BT709, fullRange });
    assert(r! >= 253 && g! <= 2 && b! <= 2, `${[r, g, b]}`);
  }
});

Deno.test(
  "ffmpeg: reads what is not read here, and picks the same frames",
  { ignore: !FFMPEG },
  () =>
    inTempDir(async (dir) => {
      const gif = join(dir, "clip.gif");
      await writeVideo(gif, greys(16, 25));
      const shape = { width: 32, height: 16, frames: 9, fps: 16 };
      for (const [name, ...codec] of [["high.mp4", "-c:v", "libx264"], ["clip.avi", "-c:v", "mpeg4"]] as const) {
        const path = join(dir, name);
        await ffmpeg("-i", gif, ...codec, "-pix_fmt", "yuv420p", path);
        assertEquals(shown(await readClip(path, shape)), expected(9, 16, 25), name);
        await assertRejects(() => readClip(path, { ...shape, frames: 13 }), ClipTooShort, "it has 10 frames");
      }
      const broken = join(dir, "broken.mkv");
      await Deno.writeTextFile(broken, "no video at all");
      await assertRejects(
        () => readClip(broken, shape),
        TilereelError,
        `${broken} cannot be read: it is neither a GIF nor an MP4, and ffmpeg says "`,
      );
      // A playlist would have ffmpeg read other files.
      const playlist = join(dir, "playlist.mkv"),
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:1,", "part.ts"];
      await ffmpeg("-i", gif, "-c:v", "mpeg2video", "-r", "25", join(dir, "part.ts"));
      await Deno.writeTextFile(playlist, [...lines, "#EXT-X-ENDLIST", ""].join("\n"));
      await assertRejects(() => readClip(playlist, shape), TilereelError, "Format not on whitelist");
      // A picture by its ending is not a pattern of names.
      await ffmpeg("-i", gif, "-frames:v", "1", join(dir, "one.webp"));
      assertEquals((await readPicture(join(dir, "one.webp"))).width, 32);

      // In a process of its own, which finds no programs.
      const { out, err } = await execute(
        Deno.execPath(),
        program("tests/read_clip.ts", [join(dir, "high.mp4"), gif]),
        { env: { PATH: dir } },
      );
      const [refused, read] = out.split("\n");
      assert(
        /^TilereelError: .*its codec is avc1\.64.*, which is not H.264 Baseline, .* is not installed; install it/
          .test(refused!),
        out + err,
      );
      // What is read here needs none.
      assertEquals(read, "9 frames");
    }),
);

Deno.test("damaged and foreign files are refused by name", () =>
  inTempDir(async (dir) => {
    const shape = { width: 32, height: 16, frames: 5, fps: 16 };
    const refused = (path: string, message: string) =>
      assertRejects(() => readClip(path, shape), TilereelError, `${path}${message}`);
    await refused(join(dir, "none.mp4"), " does not exist");
    await refused(dir, " holds no PNG or JPEG frames");

    const gif = join(dir, "clip.gif");
    await writeVideo(gif, movingShapes(32, 16, 5));
    await Deno.truncate(gif, (await Deno.stat(gif)).size / 2);
    await refused(gif, " is not a whole GIF");

    for (const name of ["1.png", "1.jpg"]) {
      const folder = join(dir, name.replace(".", ""));
      await Deno.mkdir(folder);
      const frame = { width: 16, height: 16, data: new Uint8Array(1024).fill(9) };
      const bytes = name === "1.png" ? encodePng(frame) : jpeg.encode(frame).data;
      await Deno.writeFile(join(folder, name), bytes.subarray(0, bytes.length - 30));
      await assertRejects(() => readClip(folder, shape), TilereelError, `${join(folder, name)} is not a whole `);
    }

    const mp4 = join(dir, "clip.mp4");
    await writeVideo(mp4, movingShapes(64, 48, 5));
    const whole = await Deno.readFile(mp4);
    const media = new TextDecoder("latin1").decode(whole).indexOf("mdat");
    const end = media - 4 + new DataView(whole.buffer).getUint32(media - 4);
    // The description comes first: cut short within it, or after it, and with a byte of its tables changed.
    for (const length of [40, media - 20, media + 10, whole.length - 1]) {
      await Deno.writeFile(mp4, whole.subarray(0, length));
      // ffmpeg reads the frames before the one that is cut short.
      await refused(mp4, FFMPEG && length === whole.length - 1 ? " is too short" : " cannot be read: it is ");
    }
    const tables = new TextDecoder("latin1").decode(whole).indexOf("stbl");
    await Deno.writeFile(mp4, whole.map((byte, i) => i === tables + 1 ? byte ^ 32 : byte));
    await refused(mp4, " cannot be read: it is damaged");
    // Past the length of the first NAL unit, the decoder is given noise.
    await Deno.writeFile(mp4, whole.map((byte, i) => i > media + 8 && i < end ? byte * 197 + i & 255 : byte));
    await assertRejects(() => readClip(mp4, shape), TilereelError, "frame 1 cannot be decoded");
  }));
