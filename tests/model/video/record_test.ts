import { assert, assertEquals, assertRejects } from "@std/assert";
import { decode as decodePng } from "fast-png";
import { createFile, MP4BoxBuffer } from "mp4box";
import omggif from "omggif";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { readRecord } from "../../../model/video/record.ts";
import type { ClipRecord } from "../../../model/video/record_text.ts";
import { writeVideo } from "../../../model/video/write_video.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { movingShapes } from "../../moving_shapes.ts";
import { inTempDir } from "../../process.ts";

const NAMES = ["clip.mp4", "clip.gif", "clip.png", "clip/"] as const;
const VIDEO = movingShapes(32, 16, 5);
const RECORD: ClipRecord = {
  prompt: 'Eine Katze "schläft"\n\tauf dem Dach \\ 猫が走る 🐈‍⬛ \u0000\u2028 \ud800',
  seed: 2 ** 53 - 1,
  settings: { steps: 20, guidance: 4.5, negative: "", scheduler: null, list: [1, [2]] },
};

for (const name of NAMES) {
  Deno.test(`${name}: a record comes back, and changes nothing else`, () =>
    inTempDir(async (dir) => {
      const path = join(dir, name);
      const long = { ...RECORD, prompt: "ein Ärger 🐈 ".repeat(1000) };
      for (const record of [RECORD, long, {}]) {
        await writeVideo(path, VIDEO, { record });
        assertEquals(await readRecord(path), record);
        const first = await bytesOf(path);
        await Deno.remove(path, { recursive: true });
        await writeVideo(path, VIDEO, { record });
        assertEquals(await bytesOf(path), first);
        await Deno.remove(path, { recursive: true });
      }
      await writeVideo(path, VIDEO);
      assertEquals(await readRecord(path), undefined);
    }));

  Deno.test(`${name}: records that are damaged or too large`, () =>
    inTempDir(async (dir) => {
      const path = join(dir, name), file = name === "clip/" ? join(path, "clip.json") : path;
      await assertRejects(() => readRecord(path), TilereelError, `${path} does not exist`);
      const tooLarge = { prompt: "x".repeat(1 << 20) };
      await assertRejects(() => writeVideo(path, VIDEO, { record: tooLarge }), TilereelError, "shorten the prompt");
      await assertRejects(() => Deno.stat(path), Deno.errors.NotFound);

      const write = async (find: string, replace: string) => {
        await Deno.remove(path, { recursive: true }).catch(() => {});
        await writeVideo(path, VIDEO, { record: { seed: 7777777 } });
        await replaceBytes(file, find, replace);
      };
      const refused = (message: string) =>
        assertRejects(() => readRecord(path), TilereelError, `${path}: the record of how it was made is ${message}`);
      await write('{"seed":7777777}', '{"seed";7777777}');
      await refused("damaged: it is not JSON");
      await write('{"seed":7777777}', "[1234567,123456]");
      await refused("damaged: it is not a JSON object");
      await write('"tilereel"', '"elsewhat"');
      assertEquals(await readRecord(path), undefined);
    }));
}

for (const name of ["clip.mp4", "clip.gif", "clip.png"]) {
  Deno.test(`${name}: a file that is cut short anywhere is refused`, () =>
    inTempDir(async (dir) => {
      const path = join(dir, name);
      await writeVideo(path, VIDEO, { record: RECORD });
      const whole = await Deno.readFile(path);
      for (let length = whole.length - 1; length >= 0; length -= length > 40 ? 23 : 1) {
        await Deno.writeFile(path, whole.subarray(0, length));
        await assertRejects(() => readRecord(path), TilereelError, length > 12 ? "not a whole" : "is not");
      }
    }));
}

Deno.test("mp4: the record is the comment that other programs show", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "clip.mp4");
    await writeVideo(path, VIDEO, { record: RECORD });
    const file = createFile(true);
    file.appendBuffer(MP4BoxBuffer.fromArrayBuffer((await Deno.readFile(path)).buffer, 0));
    file.flush();
    // deno-lint-ignore no-explicit-any
    const [meta] = (file as any).moov.udta.boxes;
    assertEquals([meta.type, meta.hdlr.handler], ["meta", "mdir"]);
    const list = meta.boxes.find((box: { type: string }) => box.type === "ilst").data as Uint8Array;
    const view = new DataView(list.buffer, list.byteOffset);
    assertEquals(new TextDecoder("latin1").decode(list.subarray(4, 8)), "\xa9cmt");
    assertEquals([view.getUint32(0), view.getUint32(8)], [list.length, list.length - 8]);
    assertEquals([view.getUint32(16), view.getUint32(20)], [1, 0]);
    assertEquals(JSON.parse(new TextDecoder().decode(list.subarray(24))), { tilereel: RECORD });
  }));

Deno.test("gif: the record is a comment in ASCII before the trailer", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "clip.gif");
    await writeVideo(path, VIDEO);
    const plain = await Deno.readFile(path);
    await writeVideo(path, VIDEO, { record: RECORD });
    const bytes = await Deno.readFile(path);
    assertEquals(new omggif.GifReader(bytes).numFrames(), VIDEO.frames);
    assertEquals(bytes.subarray(0, plain.length - 1), plain.subarray(0, -1));
    const [extension, comment, ...blocks] = bytes.subarray(plain.length - 1);
    assertEquals([extension, comment], [0x21, 0xfe]);
    let text = "";
    while (blocks[0]! > 0) text += String.fromCharCode(...blocks.splice(0, blocks[0]! + 1).slice(1));
    assertEquals(blocks, [0, 0x3b]);
    assert(/^[ -~]*$/.test(text), text);
    assertEquals(JSON.parse(text), { tilereel: RECORD });
  }));

Deno.test("png: the record is a comment in UTF-8", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "clip.png");
    await writeVideo(path, VIDEO, { record: RECORD });
    const bytes = await Deno.readFile(path);
    decodePng(bytes, { checkCrc: true });
    const view = new DataView(bytes.buffer);
    const chunks = new Map<string, Uint8Array>();
    for (let at = 8; at < bytes.length; at += view.getUint32(at) + 12) {
      chunks.set(
        String.fromCharCode(...bytes.subarray(at + 4, at + 8)),
        bytes.subarray(at + 8, at + 8 + view.getUint32(at)),
      );
    }
    const [keyword, text] = new TextDecoder().decode(chunks.get("iTXt")).split("\0\0\0\0\0");
    assertEquals([keyword, JSON.parse(text!)], ["Comment", { tilereel: RECORD }]);
  }));

Deno.test("records that are no JSON objects are not written", () =>
  inTempDir(async (dir) => {
    const circle: Record<string, unknown> = {};
    circle.self = circle;
    for (const record of [circle, { seed: 1n }, ["a"] as unknown as ClipRecord]) {
      const write = () => writeVideo(join(dir, "clip.png"), VIDEO, { record });
      await assertRejects(write, TilereelError, "the record of the clip cannot be written as a JSON object");
    }
    assertEquals([...Deno.readDirSync(dir)], []);
  }));

Deno.test("files that are no clips are refused", () =>
  inTempDir(async (dir) => {
    await assertRejects(() => readRecord(dir), TilereelError, `${dir} holds neither frames nor clip.json`);
    const path = join(dir, "clip.mp4");
    for (const text of ["", "x", "<!doctype html><html>…", "RIFF1234AVI LIST"]) {
      await Deno.writeTextFile(path, text);
      await assertRejects(() => readRecord(path), TilereelError, `${path} is not an MP4, a GIF, a PNG or a folder`);
    }
    await Deno.mkdir(join(dir, "frames"));
    await Deno.writeTextFile(join(dir, "frames/clip.json"), "{".padEnd(2 << 20));
    await assertRejects(() => readRecord(join(dir, "frames")), TilereelError, "has a comment of 2.00 MiB");
  }));

async function bytesOf(path: string): Promise<unknown> {
  if (!path.endsWith("/")) return await Deno.readFile(path);
  const names = [...Deno.readDirSync(path)].map(({ name }) => name).sort();
  return await Promise.all(names.map(async (name) => [name, await Deno.readFile(join(path, name))]));
}

/** Replaces the only place in a file where `find` is by `replace`, which is as long; a PNG's check is made anew. */
async function replaceBytes(file: string, find: string, replace: string): Promise<void> {
  const bytes = await Deno.readFile(file), latin1 = String.fromCharCode(...bytes);
  const at = latin1.indexOf(find);
  assert(at >= 0 && latin1.indexOf(find, at + 1) < 0 && find.length === replace.length, latin1.slice(at, at + 40));
  bytes.set(new TextEncoder().encode(replace), at);
  const chunk = latin1.indexOf("iTXt");
  if (file.endsWith(".png") && chunk > 0) {
    const view = new DataView(bytes.buffer), size = view.getUint32(chunk - 4);
    view.setUint32(chunk + 4 + size, crc32(bytes.subarray(chunk, chunk + 4 + size)));
  }
  await Deno.writeFile(file, bytes);
}
