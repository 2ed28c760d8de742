import { TilereelError } from "../../../gpu/common/errors.ts";
import { type ByteSource, readPart } from "../../files/store.ts";
import { box, fullBox } from "../mp4_boxes.ts";
import { checkRecordSize } from "../record_text.ts";

/** Where the comment's text lies, and bytes before the first box inside of each: `meta` has version and flags. */
const PATH = [["moov", 0], ["udta", 0], ["meta", 4], ["ilst", 0], ["\xa9cmt", 0], ["data", 0]] as const;
/** The text's type, and its language, which is any. */
const UTF8 = [0, 0, 0, 1, 0, 0, 0, 0] as const;

/** The box `udta`, for the end of `moov`, with the tag `©cmt` in `meta/ilst`, as by iTunes and shown by ffmpeg. */
export function commentBox(text: string): Uint8Array<ArrayBuffer> {
  const data = box("data", UTF8, new TextEncoder().encode(text));
  const handler = fullBox("hdlr", 0, new Uint8Array(4), "mdirappl", new Uint8Array(9));
  return box("udta", fullBox("meta", 0, handler, box("ilst", box("\xa9cmt", data))));
}

/**
 * The comments of an MP4.
 *
 * @throws {TilereelError} when the file is damaged, or a comment is larger than a record may be
 */
export async function mp4Comments(file: ByteSource): Promise<string[]> {
  const damaged = () => new TilereelError(`${file.path} is not a whole MP4: it is damaged or cut short`);
  const comments: string[] = [];
  const header = new Uint8Array(16);
  const view = new DataView(header.buffer);
  let hasMovie = false;
  await look(0, file.size, 0);
  if (!hasMovie) throw damaged();
  return comments;

  /** Follows {@link PATH} in the boxes from `begin` to `end`. */
  async function look(begin: number, end: number, depth: number): Promise<void> {
    const [wanted, skip] = PATH[depth]!;
    for (let at = begin; at < end;) {
      // Some writers end user data with four zero bytes.
      if (end - at < 8 && depth > 0) return;
      if (end - at < 8) throw damaged();
      header.fill(0);
      await file.read(at, header.subarray(0, Math.min(16, end - at)));
      const size32 = view.getUint32(0);
      // 1: the size follows in 64 bits; 0: up to the end.
      const size = size32 === 1 ? Number(view.getBigUint64(8)) : size32 || end - at;
      const inside = at + (size32 === 1 ? 16 : 8);
      if (at + size < inside || at + size > end) throw damaged();
      if (String.fromCharCode(...header.subarray(4, 8)) === wanted) {
        hasMovie = true;
        if (depth < PATH.length - 1) await look(inside + skip, at + size, depth + 1);
        else await comment(inside, at + size);
      }
      at += size;
    }
  }

  async function comment(begin: number, end: number): Promise<void> {
    const size = end - begin - UTF8.length;
    if (size < 0) throw damaged();
    checkRecordSize(file.path, size);
    const data = await readPart(file, begin, end - begin);
    if (UTF8.slice(0, 4).every((byte, i) => data[i] === byte)) {
      comments.push(new TextDecoder().decode(data.subarray(UTF8.length)));
    }
  }
}
