import { fileOf } from "../../files/disk.ts";
import { folderOf, memoryFile } from "../../files/memory.ts";
import { readGgufTokenizer, type TokenizerFiles } from "../../tokenizer/gguf_tokenizer.ts";
import type { ByteSource, FileStore, StoredFile } from "../../files/store.ts";
import { openCheckpoint } from "../sharded.ts";
import { type FoundPart, SPIECE } from "./found_part.ts";

const FILES = ["tokenizer.json", "spiece.model", "vocab.json"];
/** Where Wan's repositories have their text encoder's tokenizer. */
const WANS = "google/umt5-xxl";

/**
 * The files of a tokenizer as a folder: in the folder of the model, or in the file of its text encoder.
 *
 * @param part the name of the tokenizer's folder in the diffusers layout
 * @returns undefined if there are none
 */
export async function tokenizerPlace(
  root: FileStore | undefined,
  part: string,
  encoder: FoundPart | undefined,
): Promise<FileStore | undefined> {
  for (const name of [part, ...part === "tokenizer" ? [WANS] : []]) {
    const folder = root?.folder(name);
    for (const file of folder ? FILES : []) if (await folder!.file(file).kind()) return folder;
  }
  if (encoder?.tokenizer === "spiece") return inside(encoder.place);
  return encoder?.tokenizer === "gguf" ? inMetadata(encoder) : undefined;
}

/** The SentencePiece model that a text encoder's file holds. */
function inside(place: FileStore): FileStore {
  return folderOf(new Map([["spiece.model", () => tensorBytes(fileOf(place))]]), place.path);
}

/** What was read of files. */
const READ = new WeakMap<FoundPart, Promise<TokenizerFiles>>();

/** The tokenizer that a GGUF file's metadata describe, which are read once. */
function inMetadata(encoder: FoundPart): FileStore {
  const { place } = encoder;
  const open = (part: keyof TokenizerFiles) => async () => {
    const files = READ.get(encoder) ?? readGgufTokenizer(fileOf(place));
    READ.set(encoder, files);
    const value = (await files)[part];
    return await memoryFile(place.path, new TextEncoder().encode(JSON.stringify(value))).open();
  };
  const names = { "tokenizer.json": open("tokenizer"), "tokenizer_config.json": open("config") };
  return folderOf(new Map(Object.entries(names)), place.path);
}

/** The bytes of the tensor as a file. */
async function tensorBytes(file: StoredFile): Promise<ByteSource> {
  const source = await openCheckpoint(file, ""), { bytes: size } = source.info(SPIECE);
  return {
    ...{ path: `${file.path} (${SPIECE})`, size },
    async read(start, into) {
      into.set(await source.readRange(SPIECE, start, into.length));
    },
    [Symbol.dispose]: () => source.close(),
  };
}
