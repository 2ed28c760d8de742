import { madeForIn } from "../attention/made_for.ts";
import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { fileAt } from "../files/disk.ts";
import type { StoredFile } from "../files/store.ts";
import { readJsonObject } from "../checkpoint/json.ts";
import { openSafetensors, readFloat32 } from "../checkpoint/safetensors.ts";
import { whatTensorsAre } from "../checkpoint/tensor_names.ts";
import { LAYER, storedLayers } from "../checkpoint/stored_layers.ts";
import { isTorchZip, readTorchStateDict, type TorchTensor } from "../checkpoint/torch_zip.ts";
import { BRANCHES } from "./branch.ts";
import { parameterName, Router } from "./router.ts";
import { SETTINGS_KEY, settingsFromKwargs, type VortaSettings } from "./settings.ts";

/** A router and the sizes that it was trained with. */
export interface LoadedRouter {
  readonly router: Router;
  /** Undefined if no file has them; `defaultSettings` has sizes that fit a grid. */
  readonly settings: VortaSettings | undefined;
  /** The kind of model that it was trained for, if the file says it. */
  readonly madeFor?: string | undefined;
}

/** The names that wrappers of PyTorch modules put before, and between, the names of the modules. */
const WRAPPERS = new Set(["_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod", "module"]);
const PARAMETER = new RegExp(`${LAYER.source}router\\.linear\\.(weight|bias)$`);
/** How many folders above are searched. The authors keep `config.json` two above `ckpt/step-N/router.pt`. */
const PARENTS = 2;

/**
 * Loads a router. Kinds of layers are in the file's order until `routerFor` knows the model's. Its settings come from
 * the file's metadata, or from a `config.json` beside it or in one of the two folders above. Otherwise there are none.
 *
 * @param place a safetensors file, or a zip archive by `torch.save`; the first bytes show which
 * @throws {TilereelError} if it is neither, damaged, lacks a tensor, or one is of another shape or not finite.
 */
export async function loadRouter(place: string | StoredFile): Promise<LoadedRouter> {
  const file = fileAt(place), { path } = file;
  const isRouter = (name: string) => PARAMETER.test(bareName(name));
  const wanted = "a router (safetensors, or router.pt as torch.save writes it)";
  if (await isTorchZip(file, wanted)) {
    const tensors = await readTorchStateDict(file, isRouter);
    return { router: routerOf(path, tensors), settings: await settingsNear(file) };
  }
  using source = await openSafetensors(file, wanted);
  const tensors = new Map<string, TorchTensor>();
  for (const name of source.names().filter(isRouter)) {
    tensors.set(name, { shape: source.info(name).shape, data: await readFloat32(source, name) });
  }
  const router = routerOf(path, tensors, whatTensorsAre(source)), kwargs = source.metadata[SETTINGS_KEY];
  const settings = kwargs === undefined ? await settingsNear(file) : settingsFromKwargs(kwargs, path);
  return { router, settings, madeFor: madeForIn(source.metadata) };
}

/** A tensor's name without the additions of wrappers. */
function bareName(name: string): string {
  return name.split(".").filter((part) => !WRAPPERS.has(part)).join(".");
}

/** @param holds what the file contains instead, if that is known */
function routerOf(path: string, tensors: ReadonlyMap<string, TorchTensor>, holds = ""): Router {
  const byName = new Map<string, TorchTensor>();
  for (const [name, tensor] of tensors) {
    const bare = bareName(name);
    if (byName.has(bare)) throw new TilereelError(`${path} holds two tensors for ${quoted(bare)}; one was expected`);
    if (tensor.data.some((value) => !Number.isFinite(value))) {
      throw new TilereelError(
        `tensor ${quoted(name)} in ${path} holds numbers that are not finite; its training went wrong`,
      );
    }
    byName.set(bare, tensor);
  }
  const prefixes = storedLayers(byName.keys());
  if (prefixes.length === 0) {
    throw new TilereelError(
      `${path} holds no router${holds && `, but ${holds}`}; tensors such as "blocks.0.router.linear.weight" were ` +
        `expected, one with its bias for each layer, as "tilereel train router" makes them`,
    );
  }
  const first = byName.get(parameterName(prefixes[0]!, "weight")), layers = prefixes.length;
  const heads = Math.floor((first?.shape[0] ?? 0) / BRANCHES.length), dim = first?.shape[1] ?? 0;
  const take = (prefix: string, kind: "weight" | "bias") => {
    const name = parameterName(prefix, kind), tensor = byName.get(name);
    if (!tensor) {
      throw new TilereelError(
        `${path} lacks the tensor ${
          quoted(name)
        }: it has ${byName.size} router tensors, but the highest layer in it is ` +
          `number ${layers - 1}, so ${2 * layers} were expected`,
      );
    }
    const expected = kind === "weight" ? [heads * BRANCHES.length, dim] : [heads * BRANCHES.length];
    if (heads * dim === 0 || tensor.shape.join() !== expected.join()) {
      const shape = heads * dim === 0 ? "3 · heads, dim" : expected.join(", ");
      throw new TilereelError(
        `tensor ${quoted(name)} in ${path} has the shape [${tensor.shape.join(", ")}], but [${shape}] was expected`,
      );
    }
    return tensor.data;
  };
  const taken = prefixes.map((prefix) => ({ weight: take(prefix, "weight"), bias: take(prefix, "bias") }));
  return new Router(heads, dim, taken, prefixes);
}

async function settingsNear(router: StoredFile): Promise<VortaSettings | undefined> {
  // The folder of a link, not that of its target: Hugging Face's cache stores files elsewhere, under their hashes.
  let folder = router.parent;
  for (let up = 0; up <= PARENTS && folder; up++, folder = folder.parent) {
    const config = folder.file("config.json");
    const kwargs = await config.kind() === undefined ? undefined : (await readJsonObject(config))[SETTINGS_KEY];
    if (kwargs !== undefined) return settingsFromKwargs(kwargs, config.path);
  }
  return undefined;
}
