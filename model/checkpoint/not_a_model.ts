import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { families, familyNames } from "../families.ts";
import { fileOf } from "../files/disk.ts";
import { baseName, type FileStore } from "../files/store.ts";
import { Config } from "./json.ts";
import { notWanted, type Recognised, recogniseFile } from "./recognise.ts";
import { holdsWeights, openCheckpoint } from "./sharded.ts";
import { whatTensorsAre } from "./tensor_names.ts";
import { unfinishedIn } from "./unfinished.ts";

const EXPECTED = "the folder of a video model in the diffusers layout";
/** Marks in the names of models on Hugging Face that tilereel cannot use, unless a family has such a name. */
const OTHERS =
  /hunyuanvideo[-_.](1[-_.]5|i2v)|hunyuan|ltx|cogvideo|mochi|comfy|vace|animate|s2v|stable-diffusion|flux/g;
/** The kinds of Wan's own models that run. */
const OURS = /^Wan2\.(1-(T2V|I2V|FLF2V)|2-(T2V|I2V|TI2V))-/;
const INDEX = "model_index.json";

/** The command that downloads a model from Hugging Face. */
function downloadLine(id: string): string {
  return `tilereel download ${id}`;
}

/** The advice for a missing model: download a small one, or one with `mark` in its name. */
export function getModel(mark = ""): string {
  const known = families().flatMap(({ models = [] }) => models);
  return `get one with "${downloadLine(known.find((id) => id.includes(mark))!)}" and name that folder`;
}

/** The error for a path that does not exist. It may be the name of a model on Hugging Face. */
export async function noSuchModel(store: FileStore): Promise<TilereelError> {
  const { path } = store, id = await hubId(store);
  if (id === undefined) return new TilereelError(`${path} does not exist; ${EXPECTED} was expected`);
  const what = `${quoted(path)} is not a folder on this machine`;
  const name = baseName(id);
  if (/gguf/i.test(id)) {
    return new TilereelError(`${what}, and GGUF files replace parts of a whole model; ${getModel()}`);
  }
  const known = families().map(({ name }) => name), ours = known.join().toLowerCase();
  const mark = /hunyuan/i.test(id) ? "HunyuanVideo" : "";
  const foreign = id.toLowerCase().match(OTHERS)?.some((mark) => !ours.includes(mark));
  if (foreign || id.startsWith("Wan-AI/") && !OURS.test(name)) {
    return new TilereelError(
      `${what}, and only models of ${known.join(" and ")} that make video of text or pictures are supported; ${
        getModel(mark)
      }`,
    );
  }
  if (id === "tencent/HunyuanVideo") {
    return new TilereelError(`${what}, and that model is in its original layout; ${getModel(mark)}`);
  }
  if (!id.startsWith("Wan-AI/")) {
    return new TilereelError(
      `${path} does not exist; if it is the name of a model on Hugging Face, download it with ` +
        `"${downloadLine(id)}" and name that folder`,
    );
  }
  const diffusers = /-Diffusers$/i.test(id) ? id : `${id}-Diffusers`;
  return new TilereelError(
    `${what}; download it with "${downloadLine(diffusers)}" and name the folder ${baseName(diffusers)}`,
  );
}

/** The error for a path in a store that is a file. */
export async function fileForModel(place: FileStore): Promise<TilereelError> {
  const { path, name, parent } = place, model = parent?.parent, file = fileOf(place);
  if (name === INDEX) return new TilereelError(`${path} is a file of a model; name its folder, ${parent?.path}`);
  if (await model?.file(INDEX).kind()) {
    return new TilereelError(`${path} is a file of a part of a model; name the model's folder, ${model!.path}`);
  }
  const recognised = await recogniseFile(file, EXPECTED);
  const wanted = EXPECTED, get = getModel();
  if (!await holdsWeights(place)) return notWanted(path, forModel(recognised), wanted, get);
  using source = await openCheckpoint(place, INDEX);
  const what = whatTensorsAre(source), is = `${recognised.is} with ${what}`;
  return notWanted(path, { kind: recognised.kind, is }, wanted, getModel(markIn(what)));
}

/** The error for a folder without a `model_index.json`. */
export async function folderWithoutModel(folder: FileStore): Promise<TilereelError> {
  const { path, parent } = folder, names = new Set(await folder.list().catch(() => []));
  const be = (what: string, todo: string) => new TilereelError(`${path} ${what}; ${todo}`);
  const mark = await unfinishedIn(folder);
  if (mark !== undefined) {
    return be(`holds no ${INDEX}, and its download is not complete (${mark})`, "finish the download");
  }
  if (names.has("snapshots")) {
    const snapshots = folder.folder("snapshots"), [snapshot] = await snapshots.list();
    if (snapshot) {
      return be("is a folder of Hugging Face's cache", `name the model in it, ${snapshots.folder(snapshot).path}`);
    }
  }
  const original = await originalLayout(folder, names);
  if (original) return original;
  if (await parent?.file(INDEX).kind()) return be("is a part of a model", `name the model's folder, ${parent!.path}`);
  const inside = await modelInside(folder, names);
  if (inside !== undefined) return be("holds no model itself", `name the one in it, ${inside}`);
  if (["diffusion_models", "unet", "checkpoints"].some((name) => names.has(name)) && names.has("vae")) {
    return be(`is a folder of ComfyUI's models without a transformer of ${familyNames()}`, getModel());
  }
  if (names.has("transformer") && names.has("vae")) {
    return be(`lacks ${INDEX}, which says what model it is`, "copy or download it again, whole");
  }
  const part = await partAlone(folder, names);
  if (part !== undefined) return be(`holds ${part} alone, but ${EXPECTED} was expected`, getModel());
  const weights = [...names].filter((name) => /\.(safetensors|gguf|ckpt|pth?|bin)$/i.test(name)).sort()[0];
  if (weights !== undefined) {
    return be(`holds ${quoted(weights)} but no ${INDEX}, and ${EXPECTED} was expected`, getModel());
  }
  return be(
    `holds no model: a folder in the diffusers layout was expected, with ${INDEX} and the folders transformer, vae, ` +
      `text_encoder, tokenizer and scheduler`,
    getModel(),
  );
}

/** An owner and a name, as models have on Hugging Face; undefined if the text rather looks like a path. */
async function hubId({ path, parent }: FileStore): Promise<string | undefined> {
  const trimmed = path.replace(/^(https?:\/\/)?(www\.)?(huggingface\.co|hf\.co)\//, "").replace(/\/(tree\/.*)?$/, "");
  if (/^Wan2\.\d-[\w.-]+$/.test(trimmed)) return `Wan-AI/${trimmed}`;
  if (!/^[\w-][\w.-]*\/[\w-][\w.-]*$/.test(trimmed)) return undefined;
  // There is a folder of that name: it is the contents that are missing.
  return await parent?.kind().catch(() => undefined) ? undefined : trimmed;
}

/** A file's own advice is for a damaged download. In place of a model, it is of the wrong kind anyway. */
function forModel({ kind, is, todo }: Recognised): Recognised {
  const keep = kind === "lfs" || kind === "archive";
  return { kind, is, ...keep && todo !== undefined && { todo } };
}

/**
 * Wan's own repositories: one folder, with VAE and text encoder as pickles beside the transformer. HunyuanVideo's has a
 * folder for those two.
 */
async function originalLayout(folder: FileStore, names: ReadonlySet<string>): Promise<TilereelError | undefined> {
  if (names.has("hunyuan-video-t2v-720p")) {
    return new TilereelError(
      `${folder.path} is a model in HunyuanVideo's original layout, but the diffusers layout was expected; ` +
        getModel("HunyuanVideo"),
    );
  }
  const config = await Config.read(folder.file("config.json")).catch(() => undefined);
  const isWan = config?.value("_class_name") === "WanModel";
  if (
    !isWan && !["Wan2.1_VAE.pth", "Wan2.2_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth"].some((name) => names.has(name))
  ) {
    return undefined;
  }
  const type = config?.value("model_type"), large = config?.value("dim") === 5120;
  const layout = `${folder.path} is a model in Wan's original layout`;
  const supported = type === undefined || ["t2v", "i2v", "flf2v", "ti2v"].includes(String(type));
  if (!supported) {
    return new TilereelError(`${layout}, and of a kind (${quoted(String(type))}) that is not supported; ${getModel()}`);
  }
  const mark = originalMark(names, type, large);
  return new TilereelError(`${layout}, but its transformer is missing; ${getModel(mark)}`);
}

/** The mark of the model that Wan's original files are of. */
function originalMark(names: ReadonlySet<string>, type: unknown, large: boolean): string {
  if (names.has("high_noise_model")) return type === "i2v" ? "I2V-A14B" : "T2V-A14B";
  if (names.has("Wan2.2_VAE.pth") || type === "ti2v") return "TI2V-5B";
  if (type === "i2v" || type === "flf2v") return `-${type.toUpperCase()}-14B`;
  return large ? "T2V-14B" : "";
}

/** Finds a model one folder deeper. */
async function modelInside(folder: FileStore, names: ReadonlySet<string>): Promise<string | undefined> {
  for (const name of [...names].sort()) {
    const inside = folder.folder(name);
    if (await inside.file(INDEX).kind().catch(() => undefined)) return inside.path;
  }
  return undefined;
}

/** Recognises a part of a model that was downloaded alone. */
async function partAlone(folder: FileStore, names: ReadonlySet<string>): Promise<string | undefined> {
  if (names.has("scheduler_config.json")) return "a scheduler";
  if (["tokenizer.json", "spiece.model", "merges.txt"].some((name) => names.has(name))) return "a tokenizer";
  if (!names.has("config.json")) return undefined;
  const config = await Config.read(folder.file("config.json")).catch(() => undefined);
  const name = config?.value("_class_name") ?? config?.value("model_type");
  return typeof name === "string" ? `a part of a model (${quoted(name)})` : undefined;
}

/** The mark of a known model of the kind that a name or a description tells; empty for a small one. */
function markIn(what: string): string {
  return ["14B", "HunyuanVideo"].find((mark) => what.toLowerCase().includes(mark.toLowerCase())) ?? "";
}
