/**
 * Models that come as loose files: ComfyUI's single files, GGUF files, and the folders of Wan's own repositories. They
 * become a folder in the diffusers layout, whose configurations are found from the names and shapes of tensors.
 *
 * @module
 */
import { TilereelError } from "../../../gpu/common/errors.ts";
import type { Family, LooseModel } from "../../family.ts";
import { fileOf, folderAt } from "../../files/disk.ts";
import { memoryFile, memoryFolder } from "../../files/memory.ts";
import { baseName, type FileStore, type StoredFile } from "../../files/store.ts";
import type { GivenParts, PartPlace } from "../part_place.ts";
import { holdsWeights } from "../sharded.ts";
import { findPart, type FoundPart, named } from "./found_part.ts";
import { noiseIn, withoutNoise } from "./noise.ts";
import { findParts, rootOf } from "./search.ts";
import { tokenizerPlace } from "./tokenizer_place.ts";

const INDEX = "model_index.json", SCHEDULER = "scheduler", SCHEDULER_CONFIG = "scheduler_config.json";
const LOW = "transformer_2";

/** Parts of a model that were not found, or of which one must be chosen. */
export class MissingPartsError extends TilereelError {
  /** @param parts their names in `Family.parts` */
  constructor(message: string, readonly parts: readonly string[]) {
    super(message);
  }
}

/** The transformers of a model: one, or two for high and low noise. */
interface Transformers {
  readonly main: FoundPart;
  readonly low?: FoundPart | undefined;
}

/**
 * A model that is made of loose files, as a folder in the diffusers layout.
 *
 * @param place the transformer's file, or a folder of files
 * @param given parts that are not looked for
 * @returns undefined if there is no transformer of a known family
 * @throws {TilereelError} if there are several, the one of a pair is missing, or its model is not supported
 */
export async function looseModel(place: FileStore, given: GivenParts = {}): Promise<LooseStore | undefined> {
  const isFile = await place.kind() === "file";
  if (isFile && !await holdsWeights(place)) return undefined;
  const asked = isFile ? await findPart(fileOf(place), "", "transformer") : undefined;
  if (isFile && !asked) return undefined;
  const root = isFile ? rootOf(place) : place;
  const { parts, damage } = root ? await findParts(root) : { parts: [], damage: undefined };
  const transformers = await chooseTransformers(place, parts, given, asked);
  if (!transformers) {
    // What is damaged may belong to something else than a model.
    if (damage && !isFile && !await hasModelInside(place)) throw damage;
    return undefined;
  }
  const { main: { family, weights, config, place: { path } }, low } = transformers;
  const model = family.loose!.modelOf({ path, weights, config, two: low !== undefined });
  const folders = new Map<string, FileStore>([["transformer", transformers.main.place]]);
  if (low) folders.set(LOW, low.place);
  const choices = new Map<string, readonly FoundPart[]>();
  for (const [part, description] of Object.entries(family.loose!.parts)) {
    if (folders.has(part) || part === LOW) continue;
    const isOwn = await root?.folder(part).file(part === SCHEDULER ? SCHEDULER_CONFIG : "config.json").kind();
    const other = given[part] === undefined ? undefined : await givenFile(given[part], part);
    if (other) folders.set(part, other.place);
    else if (isOwn) folders.set(part, root!.folder(part));
    else if (description.weights) {
      const fitting = parts.filter((found) =>
        found.family === family && found.part === part && model.fits(part, found.config)
      );
      choices.set(part, fitting);
      if (fitting.length === 1) folders.set(part, fitting[0]!.place);
    }
  }
  for (const part of Object.keys(family.loose!.parts).filter((part) => part.startsWith("tokenizer"))) {
    const encoder = part.replace("tokenizer", "text_encoder"), [found] = choices.get(encoder) ?? [];
    const other = given[encoder] === undefined ? undefined : await givenFile(given[encoder], encoder);
    const tokens = await tokenizerPlace(root, part, other ?? found);
    if (tokens) folders.set(part, tokens);
  }
  return new LooseStore(isFile ? memoryFolder({}, place.path) : place, {
    ...{ family, model, folders, choices, damage, root },
    transformer: transformers.main,
    given: Object.keys(given),
  });
}

async function hasModelInside(folder: FileStore): Promise<boolean> {
  for (const name of await folder.list()) {
    if (await folder.folder(name).file(INDEX).kind().catch(() => undefined)) return true;
  }
  return false;
}

/** A part that was given as a single file; undefined if it is a folder, or nothing. */
async function givenFile(place: PartPlace, part: string): Promise<FoundPart | undefined> {
  const stored = typeof place === "string" ? folderAt(place) : place;
  return await stored.kind() === "file" ? await findPart(stored, "", part) : undefined;
}

async function chooseTransformers(
  place: FileStore,
  parts: readonly FoundPart[],
  given: GivenParts,
  asked: FoundPart | undefined,
): Promise<Transformers | undefined> {
  const all = parts.filter(({ part }) => part === "transformer");
  const second = given[LOW] === undefined ? undefined : await findGiven(given[LOW]);
  const first = given.transformer === undefined ? asked : await findGiven(given.transformer);
  if (first) {
    if (second) return { main: first, low: second };
    const other = noiseIn(pathIn(place, first)) && partnerOf(place, first, all);
    if (!other) return { main: first };
    return noiseIn(pathIn(place, first)) === "low" ? { main: other, low: first } : { main: first, low: other };
  }
  if (second) return undefined;
  const seen = new Set<FoundPart>(), choices: Transformers[] = [];
  for (const one of all) {
    if (seen.has(one)) continue;
    const noise = noiseIn(pathIn(place, one)), other = noise && partnerOf(place, one, all);
    for (const taken of other ? [one, other] : [one]) seen.add(taken);
    choices.push(!other ? { main: one } : noise === "low" ? { main: other, low: one } : { main: one, low: other });
  }
  if (choices.length <= 1) return choices[0];
  throw new TilereelError(
    `${place.path} holds several transformers, ${
      listed(choices.map(({ main }) => named(main)))
    }; name the file of one of ` +
      "them as the model",
  );
}

async function findGiven(place: PartPlace): Promise<FoundPart | undefined> {
  const stored = typeof place === "string" ? folderAt(place) : place;
  return await findPart(stored, "diffusion_pytorch_model", "transformer");
}

/** The transformer for the other noise: of the same name otherwise, or the only one. */
function partnerOf(root: FileStore, { place, family }: FoundPart, all: readonly FoundPart[]): FoundPart | undefined {
  const path = pathIn(root, { place }), noise = noiseIn(path);
  const others = all.filter((other) => {
    const its = noiseIn(pathIn(root, other));
    return other.family === family && its !== undefined && its !== noise;
  });
  return others.find((other) => withoutNoise(pathIn(root, other)) === withoutNoise(path)) ??
    (others.length === 1 ? others[0] : undefined);
}

/** The last two names of a path: those of folders further above say nothing of the file. */
function pathIn(_root: FileStore, { place }: Pick<FoundPart, "place">): string {
  return `${baseName(place.parent?.path ?? "")}/${place.name}`;
}

/** What a {@link LooseStore} consists of. */
interface LooseContents {
  readonly family: Family;
  readonly model: LooseModel;
  readonly transformer: FoundPart;
  /** The parts that were found, and those that were given as single files. */
  readonly folders: ReadonlyMap<string, FileStore>;
  /** What was found for parts of which there is not one. */
  readonly choices: ReadonlyMap<string, readonly FoundPart[]>;
  /** The parts that were given. */
  readonly given: readonly string[];
  readonly damage: TilereelError | undefined;
  /** Where parts were looked for. */
  readonly root: FileStore | undefined;
}

/** A model of loose files as a folder in the diffusers layout. */
export class LooseStore implements FileStore {
  readonly path: string;
  readonly name: string;
  readonly parent: FileStore | undefined;
  readonly #index: StoredFile;
  readonly #scheduler: FileStore;

  /** @param base what else is there */
  constructor(private readonly base: FileStore, private readonly contents: LooseContents) {
    ({ path: this.path, name: this.name, parent: this.parent } = base);
    const { family, model } = contents, transformer = ["diffusers", family.transformerClass];
    this.#index = memoryFile(`${this.path}/${INDEX}`, json({ ...model.index, transformer }));
    this.#scheduler = memoryFolder({ [SCHEDULER_CONFIG]: json(model.scheduler) }, `${this.path}/${SCHEDULER}`);
  }

  kind(): Promise<"folder"> {
    return Promise.resolve("folder");
  }

  async list(): Promise<string[]> {
    return await this.base.kind() === "folder" ? await this.base.list() : [];
  }

  file(name: string): StoredFile {
    const [first, ...rest] = name.split("/");
    if (name === INDEX) return this.#index;
    return rest.length > 0 ? this.folder(first!).file(rest.join("/")) : this.base.file(name);
  }

  folder(name: string): FileStore {
    const { folders, family } = this.contents, found = folders.get(name);
    if (found) return found;
    if (name === SCHEDULER) return this.#scheduler;
    // ComfyUI's folder "vae" is none of the part.
    return Object.hasOwn(family.loose!.parts, name) ? memoryFolder({}, `${this.path}/${name}`) : this.base.folder(name);
  }

  /** The error for parts of a model's kind that are missing, one of which is `part`. */
  missing(part: string, parts: readonly string[]): TilereelError {
    const { folders, choices, given, model, transformer, damage, root } = this.contents;
    const several = choices.get(part) ?? [];
    if (several.length > 1) {
      return new MissingPartsError(
        `several files could be the ${part} of ${named(transformer)}, ${
          listed(several.map(named))
        }; keep one of them ` +
          "there, or name it",
        [part],
      );
    }
    if (damage) return damage;
    const missing = parts.filter((one) =>
      !folders.has(one) && !given.includes(one) && one !== SCHEDULER && (choices.get(one)?.length ?? 0) < 2
    );
    const is = missing.length === 1 ? "is" : "are", where = root?.path ?? this.path;
    return new MissingPartsError(
      `${transformer.place.path} is a transformer alone, and its ${
        listed(missing)
      } ${is} missing; get what is missing ` +
        `with "tilereel download ${model.like} --only ${missing.join(",")} --local-dir ${where}"`,
      missing,
    );
  }
}

const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

function listed(names: readonly string[]): string {
  return names.length < 2 ? names.join() : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
