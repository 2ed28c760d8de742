import { cut, quoted, quotedValue, TilereelError } from "../../gpu/common/errors.ts";
import { familyNames, familyOf } from "../families.ts";
import type { Distilled, Family, FamilyModel } from "../family.ts";
import { folderAt } from "../files/disk.ts";
import type { FileStore, StoredFile } from "../files/store.ts";
import { type GenerationDefaults, readGenerationDefaults } from "./generation_defaults.ts";
import { Config } from "./json.ts";
import { looseModel, LooseStore } from "./loose/loose_model.ts";
import { foreignKind } from "./known_models.ts";
import { fileForModel, folderWithoutModel, getModel, noSuchModel } from "./not_a_model.ts";
import { givenPart, type GivenParts } from "./part_place.ts";
import { getIt } from "./unfinished.ts";

const INDEX = "model_index.json";

/**
 * A model that tilereel can render from: a folder in the diffusers layout, which has `model_index.json` and a folder for
 * each part, or loose files.
 */
export interface ModelFolder {
  readonly path: string;
  readonly family: Family;
  /** Present where it is a distilled model. */
  readonly distilled?: Distilled | undefined;
  readonly generation: GenerationDefaults;
  /** The names of the parts that were given in place of its own. */
  readonly given: readonly string[];
  /**
   * The folder of a part, or a single file in place of it: then what is in the folder beside it is the model's own.
   *
   * @throws {TilereelError} if the model has no such part; one that is optional is only reported when it is needed
   */
  component(name: string): Promise<FileStore>;
  /** The class that `model_index.json` gives for a part; undefined where it gives none. */
  className(name: string): string | undefined;
  /** The files of the model itself: `model_index.json`, and others beside its parts. */
  file(name: string): StoredFile;
}

/**
 * Opens a model folder: checks that it is a model of a known family with all parts that are not optional, and reads
 * its `generation.json`, if any. No weights are touched.
 *
 * @param given parts to use in place of its own
 * @throws {TilereelError} if there is no such folder, or it holds no model or one of another kind, or a part is not there
 */
export async function openModelFolder(place: string | FileStore, given: GivenParts = {}): Promise<ModelFolder> {
  const store = await modelStore(folderAt(place), given), { path } = store;
  const index = await Config.read(store.file(INDEX));
  const family = await checkedFamily(index, store, given);

  const component = async (name: string): Promise<FileStore> => {
    const folder = store.folder(name), other = given[name];
    if (other !== undefined) return await givenPart(other, folder, name, family.parts[name]!.weights !== undefined);
    const kind = await folder.kind(), isLoose = store instanceof LooseStore;
    if (isLoose && kind === undefined) throw store.missing(name, Object.keys(family.parts));
    if (componentClass(index, name) === null || kind !== "folder" && !isLoose) {
      const todo = await getIt(store, "copy or download it");
      throw new TilereelError(`${path} has no folder ${name}, which a model of ${family.name} needs here; ${todo}`);
    }
    return folder;
  };
  for (const [name, { optional }] of Object.entries(family.parts)) if (!optional) await component(name);
  const className = (name: string) => given[name] === undefined ? componentClass(index, name) ?? undefined : undefined;
  const distilled = await distilledOf(family, index, store), { multiples } = family;
  const defaults = { ...family.defaults, ...distilled && fewSteps(distilled) };
  const generation = await readGenerationDefaults(store.file("generation.json"), { defaults, multiples });
  return {
    path,
    family,
    distilled,
    generation: distilled ? withoutFlowShifts(generation) : generation,
    given: Object.keys(given),
    component,
    className,
    file: (name) => store.file(name),
  };
}

/**
 * Opens a model: reads its configurations and the headers of its weights. Nothing is uploaded.
 *
 * @throws {TilereelError} if the folder holds no model that can be run, or a file is damaged
 */
export async function openModel(place: string | FileStore, given?: GivenParts): Promise<FamilyModel> {
  const folder = await openModelFolder(place, given);
  return await folder.family.open(folder);
}

/** What the index of a folder says of a distilled model; undefined where it is none, or no model. */
export async function distilledIn(place: string | FileStore): Promise<Distilled | undefined> {
  const folder = folderAt(place), store = await folder.file(INDEX).kind() ? folder : await looseModel(folder);
  if (!store) return undefined;
  const index = await Config.read(store.file(INDEX));
  const found = familyOf(componentClass(index, "transformer"), index.value("_class_name"));
  return await distilledOf(found?.kindOf ? await found.kindOf(index, store) : found, index, store);
}

/**
 * The folder of a model in the diffusers layout, which may be made of loose files.
 *
 * @throws {TilereelError} if there is no model
 */
async function modelStore(place: FileStore, given: GivenParts): Promise<FileStore> {
  const kind = await place.kind();
  if (kind === undefined) throw await noSuchModel(place);
  if (kind === "folder" && await place.file(INDEX).kind()) return place;
  const loose = await isPart(place) ? undefined : await looseModel(place, given);
  if (loose) return loose;
  throw await (kind === "file" ? fileForModel(place) : folderWithoutModel(place));
}

/** Whether it is a folder of a model in the diffusers layout, or a file in one. */
async function isPart({ parent }: FileStore): Promise<boolean> {
  for (const folder of [parent, parent?.parent]) {
    if (await folder?.file(INDEX).kind().catch(() => undefined)) return true;
  }
  return false;
}

/** What holds for a distilled model of this size; undefined where it is none. */
async function distilledOf(
  family: Family | undefined,
  index: Config,
  store: FileStore,
): Promise<Distilled | undefined> {
  const kind = distilledKind(family, index);
  if (!kind?.sparsityByLayers) return kind;
  const { sparsityByLayers, ...distilled } = kind, file = store.folder("transformer").file("config.json");
  const layers = await file.kind() ? (await Config.read(file)).value("num_layers") : undefined;
  const sparsity = typeof layers === "number" ? sparsityByLayers[layers] : undefined;
  return { ...distilled, ...sparsity !== undefined && { sparsity } };
}

function distilledKind(family: Family | undefined, index: Config): Distilled | undefined {
  const name = index.value("_class_name");
  return typeof name === "string" && Object.hasOwn(family?.distilled ?? {}, name)
    ? family!.distilled![name]
    : undefined;
}

/** The defaults of a distilled model. */
function fewSteps({ preset: { sigmas, guidance } }: Distilled): Pick<GenerationDefaults, "steps" | "guidance"> {
  return { steps: sigmas.length, guidance };
}

/** A distilled model has the flow shift that its few noise levels were trained with, at every size. */
function withoutFlowShifts({ trained, ...defaults }: GenerationDefaults): GenerationDefaults {
  return { ...defaults, ...trained && { trained: trained.map(({ flowShift: _, ...size }) => size) } };
}

/** @throws {TilereelError} if the model is of no family, of a kind that is not supported, or has parts of other kinds */
async function checkedFamily(index: Config, store: FileStore, given: GivenParts): Promise<Family> {
  const name = index.value("_class_name"), found = familyOf(componentClass(index, "transformer"), name);
  const isUsual = found && (found.pipelineClass === name || distilledKind(found, index));
  const family = found?.kindOf ? await found.kindOf(index, store) : isUsual ? found : undefined;
  if (!family) {
    throw new TilereelError(
      `${index.path}: this model is ${
        foreignKind(name)
      }, but only text or pictures to video with ${familyNames()} is supported; ${getModel()}`,
    );
  }
  const { path } = store,
    known = Object.keys(family.parts),
    stranger = Object.keys(given).find((name) => !known.includes(name));
  if (stranger !== undefined) {
    throw new TilereelError(
      `${path} cannot be used with a part ${quoted(stranger)}: the parts of ${family.name} are ${known.join(", ")}`,
    );
  }
  for (const [name, { classes }] of Object.entries(family.parts)) {
    if (given[name] !== undefined) continue;
    const actual = componentClass(index, name);
    if (classes && typeof actual === "string" && !classes.includes(actual)) {
      throw new TilereelError(
        `${index.path}: the ${name} is a ${cut(actual)}, which is not supported; ${classes.join(" or ")} was expected`,
      );
    }
  }
  return family;
}

/** The class of a part; null if the model has no such part, undefined if the index does not mention it. */
function componentClass(index: Config, name: string): string | null | undefined {
  if (!index.keys().includes(name)) return undefined;
  if (index.isNull(name)) return null;
  const entry = index.value(name);
  const [library, className] = Array.isArray(entry) ? entry : [];
  if (library === null && className === null) return null;
  if (typeof className !== "string") {
    throw new TilereelError(`${index.path}: ${name} is ${quotedValue(entry)}, but [library, class] was expected`);
  }
  return className;
}
