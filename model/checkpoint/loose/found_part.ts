import { families } from "../../families.ts";
import type { Family, PartWeights } from "../../family.ts";
import { fileOf } from "../../files/disk.ts";
import { memoryFile } from "../../files/memory.ts";
import { LOOK_AT } from "../recognise.ts";
import { baseName, type ByteSource, type FileStore, readPart, type StoredFile } from "../../files/store.ts";
import { Config, isJsonObject, parseJsonObject, readJsonObject } from "../json.ts";
import { GGUF_TOKENIZER } from "../../tokenizer/gguf_tokenizer.ts";
import { asPart } from "../open_part.ts";
import { openCheckpoint } from "../sharded.ts";
import type { TensorSource } from "../tensor_source.ts";

/** A part of a model that was found by the names of its tensors. */
export interface FoundPart {
  readonly family: Family;
  /** Its name in {@link Family.parts}. */
  readonly part: string;
  /** Its file or the folder of its shards, with its `config.json`. */
  readonly place: FileStore;
  /** What its `config.json` says. */
  readonly config: Config;
  /** The description of its tensors, under the family's names. It is closed. */
  readonly weights: TensorSource;
  /** How the file holds a tokenizer: a SentencePiece model as a tensor, as ComfyUI's do, or as GGUF's metadata. */
  readonly tokenizer: "spiece" | "gguf" | undefined;
}

/** The tensor in which ComfyUI's text encoders hold the SentencePiece model of their tokenizer. */
export const SPIECE = "spiece_model";

/**
 * Finds which part of which family's models weights are. Their headers are read, no tensors.
 *
 * @param place a single file, or a folder with the shards of a part
 * @param stem what the names of the shards begin with
 * @param only finds a part of this name alone
 * @returns undefined if they are no known part
 * @throws {TilereelError} if they cannot be read, or lack a tensor
 */
export async function findPart(
  place: FileStore | StoredFile,
  stem = "",
  only?: string,
): Promise<FoundPart | undefined> {
  const mark = await markOf(place), key = JSON.stringify([place.path, stem, only]), before = FOUND.get(key);
  if (mark !== undefined && before?.mark === mark) return before.found;
  const found = await findPartIn(place, stem, only);
  if (mark !== undefined) FOUND.set(key, { mark, found });
  return found;
}

/** What was found. A model is asked for several times in a run, and headers of GGUF files may have ten megabytes. */
const FOUND = new Map<string, { readonly mark: string; readonly found: FoundPart | undefined }>();

/** The size and the beginning of a file, by which it is known again; undefined for a folder. */
async function markOf(place: FileStore | StoredFile): Promise<string | undefined> {
  if (await place.kind() !== "file") return undefined;
  using source = await fileOf(place).open("a safetensors or GGUF file");
  return `${source.size} ${(await readPart(source, 0, LOOK_AT)).toBase64()}`;
}

async function findPartIn(
  place: FileStore | StoredFile,
  stem: string,
  only: string | undefined,
): Promise<FoundPart | undefined> {
  using source = await openCheckpoint(place, stem);
  const tokenizer = source.has(SPIECE) ? "spiece" : source.metadata[GGUF_TOKENIZER] !== undefined ? "gguf" : undefined;
  for (const family of families()) {
    for (const [part, { weights: description }] of Object.entries(family.loose?.parts ?? {})) {
      if (!description?.configFromShapes || only !== undefined && only !== part || !isMarked(source, description)) {
        continue;
      }
      const weights = asPart(source, description), hints = await hintsFor(place, source, part);
      const config = new Config(place.path, { ...description.configFromShapes(weights, hints) });
      return { family, part, place: new LoosePart(place, config.values), config, weights, tokenizer };
    }
  }
  return undefined;
}

function isMarked(source: TensorSource, { marks, names = (name) => name }: PartWeights): boolean {
  if (!marks) return false;
  const wanted = new Set(marks);
  for (const stored of source.names()) {
    const named = names(stored);
    for (const name of typeof named === "string" ? [named] : named.map(({ name }) => name)) wanted.delete(name);
    if (wanted.size === 0) return true;
  }
  return false;
}

/**
 * What shapes do not show: `config` in the file's own metadata, by the part's name, or a `config.json` beside the file, as
 * in Wan's repositories.
 */
async function hintsFor(place: FileStore | StoredFile, source: TensorSource, part: string): Promise<Config> {
  const own = parseJsonObject(source.metadata.config ?? "")?.[part];
  if (isJsonObject(own)) return new Config(place.path, own);
  const folder = await place.kind() === "folder" ? place as FileStore : place.parent,
    file = folder?.file("config.json");
  if (part !== "transformer" || !await file?.kind().catch(() => undefined)) return new Config(place.path, {});
  return new Config(file!.path, await readJsonObject(file!));
}

/** The weights of a part as its folder or its file, beside which is a `config.json`. */
class LoosePart implements FileStore, StoredFile {
  readonly path: string;
  readonly name: string;
  readonly parent: FileStore | undefined;
  readonly #config: StoredFile;

  constructor(private readonly place: FileStore | StoredFile, config: Readonly<Record<string, unknown>>) {
    ({ path: this.path, name: this.name, parent: this.parent } = place);
    this.#config = memoryFile(`${place.path}/config.json`, new TextEncoder().encode(JSON.stringify(config)));
  }

  kind(): Promise<"file" | "folder" | undefined> {
    return this.place.kind();
  }

  open(wanted?: string): Promise<ByteSource> {
    return fileOf(this.place).open(wanted);
  }

  async list(): Promise<string[]> {
    return "list" in this.place && await this.kind() === "folder" ? await this.place.list() : [];
  }

  file(name: string): StoredFile {
    return name === "config.json" ? this.#config : (this.place as FileStore).file(name);
  }

  folder(name: string): FileStore {
    return (this.place as FileStore).folder(name);
  }
}

/** The name of a file or folder in messages. */
export const named = ({ place }: FoundPart): string => baseName(place.path);
