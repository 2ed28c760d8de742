/**
 * A model folder in the diffusers layout: `model_index.json` and a folder for each part.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import { fileAt, folderAt } from "../files/disk.ts";
import type { FileStore } from "../files/store.ts";
import { type GenerationDefaults, readGenerationDefaults } from "./generation_defaults.ts";
import { Config } from "./json.ts";
import { checkKind } from "./known_models.ts";
import { fileForModel, folderWithoutModel, noSuchModel } from "./not_a_model.ts";
import { getIt } from "./unfinished.ts";

/** The parts of a text-to-video model, by the names of their folders. */
export type Component = "transformer" | "vae" | "scheduler" | "text_encoder" | "tokenizer";

/** The classes that each part may have. The tokenizer may have any, because its file says what it is. */
const SUPPORTED_CLASSES: Readonly<Record<Component, readonly string[] | undefined>> = {
  transformer: ["WanTransformer3DModel"],
  vae: ["AutoencoderKLWan"],
  scheduler: ["UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler"],
  text_encoder: ["UMT5EncoderModel"],
  tokenizer: undefined,
};

/** A model folder that tilereel can render from. */
export interface ModelFolder {
  readonly path: string;
  readonly generation: GenerationDefaults;
  /**
   * The folder of a part.
   *
   * @throws {TilereelError} if the model has no such part; a missing text encoder or tokenizer is only reported when it
   * is needed
   */
  component(name: Component): Promise<FileStore>;
  /** The class that `model_index.json` gives for a part; undefined where it gives none. */
  className(name: Component): string | undefined;
}

/**
 * Opens a model folder: checks that it is a Wan text-to-video model with a transformer, a VAE and a scheduler, and
 * reads its `generation.json`, if any. No weights are touched.
 *
 * @throws {TilereelError} if there is no such folder, or it holds no model or one of another kind.
 */
export async function openModelFolder(place: string | FileStore): Promise<ModelFolder> {
  const store = folderAt(place), { path } = store, kind = await store.kind();
  if (kind === undefined) throw await noSuchModel(store);
  if (kind === "file") throw await fileForModel(fileAt(path));
  const indexFile = store.file("model_index.json");
  if (!await indexFile.kind()) throw await folderWithoutModel(store);
  const index = await Config.read(indexFile);
  await checkKind(index, store);
  checkClasses(index);

  const component = async (name: Component): Promise<FileStore> => {
    const folder = store.folder(name);
    if (componentClass(index, name) === null || await folder.kind() !== "folder") {
      const todo = await getIt(store, "copy or download it");
      throw new TilereelError(`${path} has no folder ${name}, which a Wan model needs here; ${todo}`);
    }
    return folder;
  };
  for (const name of ["transformer", "vae", "scheduler"] as const) await component(name);
  const className = (name: Component) => componentClass(index, name) ?? undefined;
  return { path, generation: await readGenerationDefaults(store.file("generation.json")), component, className };
}

function checkClasses(index: Config): void {
  for (const [name, classes] of Object.entries(SUPPORTED_CLASSES)) {
    const actual = componentClass(index, name);
    if (classes && typeof actual === "string" && !classes.includes(actual)) {
      throw new TilereelError(
        `${index.path}: the ${name} is a ${actual}, which is not supported; ${classes.join(" or ")} was expected`,
      );
    }
  }
}

/** The class of a part; null if the model has no such part, undefined if the index does not mention it. */
function componentClass(index: Config, name: string): string | null | undefined {
  if (!index.keys().includes(name)) return undefined;
  if (index.isNull(name)) return null;
  const entry = index.value(name);
  const [library, className] = Array.isArray(entry) ? entry : [];
  if (library === null && className === null) return null;
  if (typeof className !== "string") {
    throw new TilereelError(`${index.path}: ${name} is ${JSON.stringify(entry)}, but [library, class] was expected`);
  }
  return className;
}
