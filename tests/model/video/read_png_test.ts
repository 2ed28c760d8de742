import { assertEquals, assertRejects } from "@std/assert";
import { convertIndexedToRgb, decode } from "fast-png";
import { concatenate, u32 } from "../../../model/video/mp4_boxes.ts";
import { crc32 } from "../../../model/video/crc32.ts";
import { decodePng } from "../../../model/video/read/png.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { inTempDir } from "../../process.ts";
import { readStill } from "../../../model/video/read/still.ts";

const ADAM7 = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];
const CHANNELS: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };

function chunk(type: string, ...content: Uint8Array[]): Uint8Array {
  const typed = concatenate([new TextEncoder().encode(type), ...content]);
  return concatenate([u32(typed.length - 4), typed, u32(crc32(typed))]);
}

async function deflated(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** A PNG of noise: rows with all filters, in two chunks. */
async function noise(
  width: number,
  height: number,
  depth: number,
  type: number,
  interlaced: boolean,
  more: Uint8Array[],
) {
  const rows: Uint8Array[] = [];
  let state = depth + type + width;
  const random = () => (state = Math.imul(state, 1103515245) + 12345 >>> 0) >>> 16 & 255;
  for (const [left, top, across, down] of interlaced ? ADAM7 : [[0, 0, 1, 1]]) {
    const columns = Math.ceil((width - left!) / across!), lines = Math.ceil((height - top!) / down!);
    for (let line = 0; line < lines && columns > 0; line++) {
      const row = Uint8Array.from({ length: Math.ceil(columns * depth * CHANNELS[type]! / 8) }, random);
      rows.push(Uint8Array.of(line % 5), row);
    }
  }
  const data = await deflated(concatenate(rows)), half = data.length >> 1;
  return concatenate([
    Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10),
    chunk("IHDR", u32(width, height), Uint8Array.of(depth, type, 0, 0, interlaced ? 1 : 0)),
    ...more,
    ...[data.subarray(0, half), data.subarray(half)].map((part) => chunk("IDAT", part)),
    chunk("IEND"),
  ]);
}

/** What another decoder makes of it, over black. */
function reference(bytes: Uint8Array): number[] {
  const png = decode(bytes), { depth } = png;
  const levels = 2 ** depth, greys = Array.from({ length: levels }, (_, i) => Array(3).fill(i * 255 / (levels - 1)));
  const isPacked = png.palette !== undefined || depth < 8;
  const palette = png.palette ?? greys, channels = isPacked ? palette[0]!.length : png.channels;
  const data = isPacked ? convertIndexedToRgb({ ...png, palette }) : png.data;
  const samples = Array.from(data, (sample) => depth === 16 ? Math.round(sample / 257) : sample);
  return Array.from({ length: png.width * png.height * 3 }, (_, i) => {
    const pixel = Math.floor(i / 3) * channels, alpha = channels % 2 === 0 ? samples[pixel + channels - 1]! / 255 : 1;
    return Math.round(samples[pixel + (channels > 2 ? i % 3 : 0)]! * alpha);
  });
}

Deno.test("PNGs of all kinds have the pixels that another decoder finds", async () => {
  const palette = chunk("PLTE", Uint8Array.from({ length: 768 }, (_, i) => i * 37 & 255));
  const alphas = chunk("tRNS", Uint8Array.from({ length: 256 }, (_, i) => i * 91 & 255));
  const depths: [type: number, ...depths: number[]][] = [[0, 1, 2, 4, 8, 16], [2, 8, 16], [3, 1, 2, 4, 8], [4, 8, 16], [
    6,
    8,
    16,
  ]];
  for (const [type, ...all] of depths) {
    for (const depth of all) {
      // The other decoder does not read interlaced pictures of few bits.
      for (const interlaced of depth < 8 ? [false] : [false, true]) {
        for (const [width, height] of [[1, 1], [3, 5], [17, 9], [33, 34]] as const) {
          const more = type !== 3 ? [] : depth === 8 ? [palette, alphas] : [palette];
          const bytes = await noise(width, height, depth, type, interlaced, more);
          const { rgb } = await decodePng("a.png", bytes);
          assertEquals([...rgb], reference(bytes), `type ${type}, ${depth} bits, ${width}x${height}, ${interlaced}`);
        }
      }
    }
  }
});

Deno.test("the colour that stands for none is black", async () => {
  const grey = chunk("IDAT", await deflated(Uint8Array.of(0, 7, 8)));
  const header = chunk("IHDR", u32(2, 1), Uint8Array.of(8, 0, 0, 0, 0));
  const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10);
  const bytes = concatenate([signature, header, chunk("tRNS", Uint8Array.of(0, 8)), grey, chunk("IEND")]);
  assertEquals([...(await decodePng("a.png", bytes)).rgb], [7, 7, 7, 0, 0, 0]);
});

Deno.test("what is wrong with a PNG is said in a sentence", () =>
  inTempDir(async (dir) => {
    const path = `${dir}/a.png`, good = await noise(9, 7, 8, 2, false, []);
    const refused = async (bytes: Uint8Array, message: string) => {
      await Deno.writeFile(path, bytes);
      await assertRejects(() => readStill(path), TilereelError, `${path} ${message}`);
    };
    await refused(good.subarray(0, 60), "is not a whole PNG: it is cut short");
    await refused(
      good.map((byte, i) => i === 45 ? byte ^ 1 : byte),
      "is not a whole PNG: the checksum of its chunk IDAT",
    );
    await refused(await noise(9, 7, 8, 3, false, []), "is not a whole PNG: it has no colour of a number that it uses");
  }));
