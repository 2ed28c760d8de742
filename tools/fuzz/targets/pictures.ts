import { encode as encodePng } from "fast-png";
import jpeg from "jpeg-js";
import { readRecord } from "../../../model/video/record.ts";
import { readClip } from "../../../model/video/read/read_clip.ts";
import { readPicture } from "../../../model/video/read/picture.ts";
import { writeVideo } from "../../../model/video/write_video.ts";
import type { Video } from "../../../model/video/video.ts";
import { crc32 } from "../../../model/video/crc32.ts";
import type { Dice } from "../dice.ts";
import { joined, mutateBytes } from "../mutate_bytes.ts";
import type { FuzzTarget } from "../target.ts";

const RECORD = { prompt: "a cat", seed: 7, width: 32, height: 16 };

/** A clip of noise. */
export function noise(width: number, height: number, frames: number): Video {
  const data = Uint8Array.from({ length: width * height * 3 * frames }, (_, i) => i * 2654435761 >>> 11 & 255);
  return { width, height, frames, fps: 16, data };
}

const big32 = (...numbers: number[]) => {
  const bytes = new DataView(new ArrayBuffer(4 * numbers.length));
  numbers.forEach((number, i) => bytes.setUint32(4 * i, number));
  return new Uint8Array(bytes.buffer);
};

/** A chunk of a PNG. */
function chunk(type: string, content: Uint8Array): Uint8Array {
  const typed = joined(new TextEncoder().encode(type), content);
  return joined(big32(content.length), typed, big32(crc32(typed)));
}

const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10);

/** A PNG whose data inflate to `bytes` zeros. */
async function png(
  width: number,
  height: number,
  bytes: number,
  type = 2,
  depth = 8,
): Promise<Uint8Array<ArrayBuffer>> {
  const zeros = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull(controller) {
      controller.enqueue(new Uint8Array(Math.min(bytes, 2 ** 20)));
      bytes -= 2 ** 20;
      if (bytes <= 0) controller.close();
    },
  });
  const data = new Uint8Array(await new Response(zeros.pipeThrough(new CompressionStream("deflate"))).arrayBuffer());
  const header = joined(big32(width, height), Uint8Array.of(depth, type, 0, 0, 0));
  return joined(SIGNATURE, chunk("IHDR", header), chunk("IDAT", data), chunk("IEND", new Uint8Array()));
}

/** A GIF of one image without data. */
function gif(width: number, height: number): Uint8Array<ArrayBuffer> {
  const size = [width & 255, width >> 8, height & 255, height >> 8];
  const control = [0x21, 0xf9, 4, 3 << 2, 0, 0, 0, 0], image = [0x2c, 0, 0, 0, 0, ...size, 0, 2, 1, 0x44, 0];
  return Uint8Array.from([...new TextEncoder().encode("GIF89a"), ...size, 0, 0, 0, ...control, ...image, 0x3b]);
}

async function read(folder: string, name: string, bytes: Uint8Array): Promise<unknown> {
  const path = `${folder}/${name}`;
  await Deno.writeFile(path, bytes);
  return await readPicture(path);
}

export const pictures: FuzzTarget = {
  reads: "PNG and JPEG pictures, and GIFs",
  open: async (folder) => {
    const { data } = noise(19, 11, 1), rgba = { width: 19, height: 11, data: new Uint8Array(19 * 11 * 4).fill(99) };
    await writeVideo(`${folder}/clip.gif`, noise(16, 16, 3));
    const files = [
      encodePng({ width: 19, height: 11, data, channels: 3 }),
      encodePng({ ...rgba, channels: 4 }),
      jpeg.encode(rgba, 80).data,
      jpeg.encode({ width: 19, height: 11, data: Uint8Array.from({ length: 836 }, (_, i) => i * 77 & 255) }, 90).data,
      await Deno.readFile(`${folder}/clip.gif`),
    ].map((bytes) => Uint8Array.from(bytes));
    return async (dice) => {
      let bytes = mutateBytes(dice.of(files), dice);
      // Otherwise hardly a change would get past the checksums.
      if (bytes[0] === SIGNATURE[0] && !dice.once(4)) bytes = withChecksums(bytes);
      await read(folder, "a", bytes);
    };
  },
  extremes: {
    "a GIF of 35 bytes, 65535x65535": (folder) => read(folder, "a.gif", gif(65535, 65535)),
    "a GIF of 20000x20000 whose frames are restored": (folder) => read(folder, "a.gif", gif(20000, 20000)),
    "a GIF of the largest size without data": (folder) => read(folder, "a.gif", gif(8192, 4096)),
    "a PNG of 30000x30000": async (folder) => read(folder, "a.png", await png(30000, 30000, 1000)),
    "a PNG of 64x64 that inflates to 2 GB of filters that are none": async (folder) =>
      read(folder, "a.png", await png(64, 64, 2 ** 31, 7)),
    "a PNG of the largest size without data": async (folder) => read(folder, "a.png", await png(8192, 4096, 0)),
    "a PNG of the largest size whose data end in its middle": async (folder) =>
      read(folder, "a.png", await png(8192, 4096, 5e7)),
    "a JPEG of 10000x10000": (folder) => {
      const { data } = jpeg.encode({ width: 8, height: 8, data: new Uint8Array(256) }, 80),
        bytes = Uint8Array.from(data);
      const at = bytes.findIndex((byte, i) => byte === 0xff && bytes[i + 1] === 0xc0);
      bytes.set([10000 >> 8, 10000 & 255, 10000 >> 8, 10000 & 255], at + 5);
      return read(folder, "a.jpg", bytes);
    },
    "a JPEG of the largest size without data": (folder) => {
      const { data } = jpeg.encode({ width: 8, height: 8, data: new Uint8Array(256) }, 80),
        bytes = Uint8Array.from(data);
      const at = bytes.findIndex((byte, i) => byte === 0xff && bytes[i + 1] === 0xc0);
      bytes.set([4096 >> 8, 0, 8192 >> 8, 0], at + 5);
      return read(folder, "a.jpg", bytes.subarray(0, bytes.length - 20));
    },
  },
};

/** A PNG with the checksums that its chunks should have. */
function withChecksums(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const view = new DataView(bytes.buffer);
  for (let at = 8; at + 12 <= bytes.length;) {
    const size = view.getUint32(at);
    if (at + 12 + size > bytes.length) break;
    view.setUint32(at + 8 + size, crc32(bytes.subarray(at + 4, at + 8 + size)));
    at += 12 + size;
  }
  return bytes;
}

/** An MP4 of the right kind, with the count of a table changed. */
async function mp4With(folder: string, box: string, at: number, ...values: number[]): Promise<unknown> {
  const path = `${folder}/clip.mp4`;
  await writeVideo(path, noise(32, 16, 5));
  const bytes = await Deno.readFile(path), view = new DataView(bytes.buffer);
  const start = new TextDecoder("latin1").decode(bytes).indexOf(box) + 4;
  values.forEach((value, i) => view.setUint32(start + at + 4 * i, value));
  await Deno.writeFile(path, bytes);
  return await readClip(path, { width: 32, height: 16, frames: 5, fps: 16 });
}

export const clips: FuzzTarget = {
  reads: "clips as MP4 and GIF, and their records",
  open: async (folder) => {
    const shape = { width: 32, height: 16, frames: 3, fps: 16 }, files: [string, Uint8Array][] = [];
    for (const name of ["a.mp4", "a.gif"]) {
      await writeVideo(`${folder}/${name}`, noise(32, 16, 5), { record: RECORD });
      files.push([name, await Deno.readFile(`${folder}/${name}`)]);
    }
    return async (dice: Dice) => {
      const [name, bytes] = dice.of(files), path = `${folder}/${name}`;
      await Deno.writeFile(path, mutateBytes(bytes, dice));
      const record = await readRecord(path).catch((error) => error);
      await readClip(path, shape);
      if (record instanceof Error) throw record;
    };
  },
  extremes: {
    "2^31 - 1 samples": (folder) => mp4With(folder, "stsz", 8, 2 ** 31 - 1),
    "2^31 - 1 samples of one byte": (folder) => mp4With(folder, "stsz", 4, 1, 2 ** 31 - 1),
    "2^31 - 1 times": (folder) => mp4With(folder, "stts", 4, 2 ** 31 - 1),
    "2^31 - 1 chunks": (folder) => mp4With(folder, "stco", 4, 2 ** 31 - 1),
    "a box of 2^32 - 1 bytes": (folder) => mp4With(folder, "moov", -8, 2 ** 32 - 1),
  },
};
