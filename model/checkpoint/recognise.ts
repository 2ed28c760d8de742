import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { fileAt } from "../files/disk.ts";
import { type ByteSource, readPart, type StoredFile } from "../files/store.ts";

/** What a file is by its first bytes, so that errors can say what a file of the wrong kind is. All loaders use it. */
export interface Recognised {
  readonly kind:
    | "safetensors"
    | "gguf"
    | "torch zip"
    | "pickle"
    | "onnx"
    | "lfs"
    | "html"
    | "json"
    | "text"
    | "archive"
    | "media"
    | "hdf5"
    | "zeros"
    | "empty"
    | "unknown";
  /** The kind in words: "a GGUF file". */
  readonly is: string;
  /** What to do about it, if that depends on the kind. */
  readonly todo?: string;
}

/** The number of bytes that are read: enough for a web page's title and for GGUF's architecture, which comes first. */
export const LOOK_AT = 4096;
/** The limit of the reference implementation. Longer headers are treated as damage. */
const LONGEST_SAFETENSORS_HEADER = 100_000_000;

const RUNS_CODE = "which may run code when it is loaded and is not read";
const CONVERT = "download the safetensors version of the same model, or convert it";
const AGAIN = "copy or download it again";

/** Files that start with these bytes, or have them at the given offset. */
const MAGIC: readonly (Recognised & { readonly bytes: readonly number[]; readonly at?: number })[] = [
  { kind: "hdf5", is: "an HDF5 file (Keras)", todo: CONVERT, bytes: [0x89, 0x48, 0x44, 0x46] },
  { kind: "archive", is: "a gzip archive", todo: "unpack it first", bytes: [0x1f, 0x8b] },
  { kind: "archive", is: "a 7z archive", todo: "unpack it first", bytes: [0x37, 0x7a, 0xbc, 0xaf] },
  { kind: "archive", is: "an xz archive", todo: "unpack it first", bytes: [0xfd, 0x37, 0x7a, 0x58] },
  { kind: "archive", is: "a Zstandard archive", todo: "unpack it first", bytes: [0x28, 0xb5, 0x2f, 0xfd] },
  { kind: "archive", is: "a RAR archive", todo: "unpack it first", bytes: [0x52, 0x61, 0x72, 0x21] },
  { kind: "archive", is: "a tar archive", todo: "unpack it first", bytes: [...ascii("ustar")], at: 257 },
  { kind: "media", is: "a PNG picture", bytes: [0x89, 0x50, 0x4e, 0x47] },
  { kind: "media", is: "a JPEG picture", bytes: [0xff, 0xd8, 0xff] },
  { kind: "media", is: "a GIF", bytes: [...ascii("GIF8")] },
  { kind: "media", is: "an MP4 video", bytes: [...ascii("ftyp")], at: 4 },
  { kind: "media", is: "a WebM or Matroska video", bytes: [0x1a, 0x45, 0xdf, 0xa3] },
  { kind: "media", is: "a WebP picture", bytes: [...ascii("WEBP")], at: 8 },
  { kind: "media", is: "a PDF", bytes: [...ascii("%PDF-")] },
];

/**
 * Looks at the beginning of a file.
 *
 * @param wanted what is expected there, for messages
 * @throws {TilereelError} if it cannot be read
 */
export async function recogniseFile(file: string | StoredFile, wanted?: string): Promise<Recognised> {
  using source = await fileAt(file).open(wanted);
  return await recogniseOpened(source);
}

/** As {@link recogniseFile}, for an open file. */
export async function recogniseOpened(source: ByteSource): Promise<Recognised> {
  return recogniseBytes(await readPart(source, 0, LOOK_AT));
}

/** Recognises a file by its first bytes; by all its bytes if it is shorter than 4096. */
export function recogniseBytes(start: Uint8Array): Recognised {
  if (start.length === 0) return { kind: "empty", is: "empty", todo: AGAIN };
  if (isSafetensors(start)) return { kind: "safetensors", is: "a safetensors file" };
  if (begins(start, ascii("GGUF"))) return gguf(start);
  if (begins(start, [0x50, 0x4b, 3, 4])) return zip(start);
  if (start[0] === 0x80 && start[1]! >= 2 && start[1]! <= 5) {
    return { kind: "pickle", is: `a Python pickle (.bin, .ckpt, .pt or .pth), ${RUNS_CODE}`, todo: CONVERT };
  }
  const magic = MAGIC.find(({ bytes, at = 0 }) => begins(start.subarray(at), bytes));
  if (magic) return { kind: magic.kind, is: magic.is, ...magic.todo !== undefined && { todo: magic.todo } };
  // A model in ONNX's protobuf: its version, then the name of what made it, or what it imports.
  if (start[0] === 0x08 && start[1]! < 32 && [0x12, 0x3a, 0x42].includes(start[2]!)) {
    return { kind: "onnx", is: "an ONNX model" };
  }
  if (start.length >= 64 && start.every((byte) => byte === 0)) {
    return { kind: "zeros", is: "only zeros at its beginning, like an unfinished download", todo: AGAIN };
  }
  return text(start) ?? { kind: "unknown", is: "of no kind that tilereel knows" };
}

/** Kinds that are no failed download of another file. */
const WHOLE: readonly Recognised["kind"][] = ["safetensors", "gguf", "onnx", "json", "media"];

/** The error for a file that is not what was wanted ("a safetensors file"). */
export function notWanted(path: string, recognised: Recognised, wanted: string, remedy?: string): TilereelError {
  const { kind, is, todo } = recognised, otherwise = remedy ?? (WHOLE.includes(kind) ? "name another file" : AGAIN);
  return new TilereelError(`${path} is ${is}, but ${wanted} was expected; ${todo ?? otherwise}`);
}

/**
 * Checks the kind of a recognised file.
 *
 * @param kinds that are accepted. Include "unknown" if the wanted kind has no mark of its own or may be damaged
 * @throws {TilereelError} as in {@link notWanted}
 */
export function expectKind(
  path: string,
  recognised: Recognised,
  kinds: readonly Recognised["kind"][],
  wanted: string,
): void {
  if (!kinds.includes(recognised.kind)) throw notWanted(path, recognised, wanted);
}

function isSafetensors(start: Uint8Array): boolean {
  if (start.length < 9 || start[8] !== 0x7b) return false;
  return new DataView(start.buffer, start.byteOffset).getBigUint64(0, true) <= LONGEST_SAFETENSORS_HEADER;
}

/** GGUF has a magic number, a version, counts of tensors and values, then values by name; the architecture is first. */
function gguf(start: Uint8Array): Recognised {
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  const read = (at: number): { text: string; end: number } | undefined => {
    if (at + 8 > start.length) return undefined;
    const length = Number(view.getBigUint64(at, true));
    return at + 8 + length > start.length
      ? undefined
      : { text: new TextDecoder().decode(start.subarray(at + 8, at + 8 + length)), end: at + 8 + length };
  };
  const key = read(24);
  const isString = key && key.end + 4 <= start.length && view.getUint32(key.end, true) === 8;
  const value = key?.text === "general.architecture" && isString ? read(key.end + 4) : undefined;
  const of = value ? ` (of architecture ${quoted(value.text)})` : "";
  return { kind: "gguf", is: `a GGUF file${of}` };
}

/** `torch.save` writes a zip whose first entry is a pickle called data.pkl. */
function zip(start: Uint8Array): Recognised {
  const length = start.length < 30 ? 0 : new DataView(start.buffer, start.byteOffset).getUint16(26, true);
  const name = new TextDecoder().decode(start.subarray(30, 30 + length));
  if (/^[^/]+\/(data\.pkl|byteorder|version|\.format_version|\.data\/.*|data\/.*)$/.test(name)) {
    return { kind: "torch zip", is: "a PyTorch file (.pt, .pth, .ckpt or .bin)", todo: CONVERT };
  }
  return { kind: "archive", is: "a zip archive", todo: "unpack it first" };
}

/** The text, or undefined if the bytes are no UTF-8. */
function text(start: Uint8Array): Recognised | undefined {
  let text: string;
  try {
    // The bytes may end in the middle of a character; that alone does not make it another kind of file.
    text = new TextDecoder("utf-8", { fatal: true }).decode(start, { stream: start.length >= LOOK_AT });
  } catch {
    return undefined;
  }
  // deno-lint-ignore no-control-regex
  if (/[\x00-\x08\x0e-\x1a\x1c-\x1f]/.test(text)) return undefined;
  const trimmed = text.trimStart();
  if (trimmed.startsWith("version https://git-lfs.github.com/spec/")) {
    return {
      kind: "lfs",
      is: "a Git LFS pointer, which only stands for the file",
      todo: 'run "git lfs pull" in its repository, or download the model with "hf download"',
    };
  }
  if (/^(<\?xml[^>]*>\s*|<!--.*?-->\s*)*<(!doctype html|html|head|body|title|script)\b/is.test(trimmed)) {
    const title = /<title[^>]*>\s*(.*?)\s*<\/title>/is.exec(trimmed)?.[1];
    return {
      kind: "html",
      is: `a web page${title ? ` (${quoted(title)})` : ""} that was saved under this name`,
      todo: 'download the file itself, after "hf auth login" where the model asks for it',
    };
  }
  if (/^[{[]/.test(trimmed)) return { kind: "json", is: "a JSON file" };
  const [line = ""] = trimmed.split(/[\r\n]/, 1);
  return { kind: "text", is: `a text file that begins ${quoted(line)}`, todo: AGAIN };
}

function begins(bytes: Uint8Array, magic: ArrayLike<number>): boolean {
  return bytes.length >= magic.length && Array.from(magic).every((byte, i) => bytes[i] === byte);
}

function ascii(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
