import type { Grid } from "../attention/grid.ts";
import { nearestSize, othersPrefix } from "../attention/sizes.ts";
import { madeForIn } from "../attention/made_for.ts";
import { quoted, quotedValue, TilereelError } from "../../gpu/common/errors.ts";
import { fileAt } from "../files/disk.ts";
import type { StoredFile } from "../files/store.ts";
import { Config, readJsonObject } from "../checkpoint/json.ts";
import { openSafetensors, readFloat32 } from "../checkpoint/safetensors.ts";
import { whatTensorsAre } from "../checkpoint/tensor_names.ts";
import { LAYER, storedLayers } from "../checkpoint/stored_layers.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import { isTorchZip, readTorchStateDict, type TorchTensor } from "../checkpoint/torch_zip.ts";
import { BRANCHES } from "./branch.ts";
import { parameterName, Router } from "./router.ts";
import { defaultSettings, SETTINGS_KEY, settingsFromKwargs, type VortaSettings } from "./settings.ts";

/** A router for clips of one size. */
export interface RouterOfSize {
  /** The tokens of the clips. */
  readonly grid: Grid;
  readonly router: Router;
  /** Undefined if they are those of its grid, as `defaultSettings` has them. */
  readonly settings: VortaSettings | undefined;
  /** The share of a clip's first steps that have full attention unless something else is asked for. Default: 0 */
  readonly denseShare?: number;
}

/** A router and the sizes that it was trained with. */
export interface LoadedRouter {
  readonly router: Router;
  /** Undefined if no file has them; `defaultSettings` has sizes that fit a grid. */
  readonly settings: VortaSettings | undefined;
  /** The router for each size of the clips that it, or another one in the file, was trained on, if the file says it. */
  readonly sizes?: readonly RouterOfSize[];
  /** The kind of model that it was trained for, if the file says it. */
  readonly madeFor?: string | undefined;
}

/** The names that wrappers of PyTorch modules put before, and between, the names of the modules. */
const WRAPPERS = new Set(["_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod", "module"]);
const PARAMETER = new RegExp(`${LAYER.source}router\\.linear\\.(weight|bias)$`);
/** How many folders above are searched. The authors keep `config.json` two above `ckpt/step-N/router.pt`. */
const PARENTS = 2;

/** The sizes of tiles and buckets for a grid: those of the router that is used there, or the default ones. */
export function settingsOfRouter(
  { settings, sizes = [] }: Pick<LoadedRouter, "settings" | "sizes">,
): (grid: Grid) => VortaSettings {
  return (grid) => (nearestSize(grid, sizes) ?? { settings }).settings ?? defaultSettings(grid);
}

/** The key in the metadata of what a file says of sizes: `grids` and `dense_share` of the first router, and `others`. */
export const ROUTER_KEY = "router";

/**
 * Loads a router, and those for clips of other sizes. Kinds of layers are in the file's order until `routerFor` knows
 * the model's. Its settings come from the file's metadata, or from a `config.json` beside it or in one of the two folders
 * above. Otherwise there are none.
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
  const text = source.metadata[ROUTER_KEY],
    config = text === undefined ? undefined : Config.under(ROUTER_KEY, text, path);
  const first = await readRouter(source, isRouter), kwargs = source.metadata[SETTINGS_KEY];
  const settings = kwargs === undefined ? await settingsNear(file) : settingsFromKwargs(kwargs, path);
  const sizes = config ? [...ofSizes(config, first, settings), ...await readOthers(source, isRouter, config)] : [];
  return { router: first, settings, ...sizes.length > 0 && { sizes }, madeFor: madeForIn(source.metadata) };
}

/** The routers for other sizes. */
async function readOthers(
  source: TensorSource,
  isRouter: (name: string) => boolean,
  config: Config,
): Promise<RouterOfSize[]> {
  const others = config.isNull("others") ? [] : config.value("others");
  if (!Array.isArray(others)) {
    throw new TilereelError(`${config.path}: others is no list; a list of objects was expected`);
  }
  const all: RouterOfSize[] = [];
  for (const [i, value] of others.entries()) {
    const prefix = othersPrefix(i), own = Config.under(`${ROUTER_KEY}: others ${i}`, value, source.path);
    const kwargs = own.value(SETTINGS_KEY);
    const settings = kwargs === undefined ? undefined : settingsFromKwargs(kwargs, own.path);
    all.push(...ofSizes(own, await readRouter(source, isRouter, prefix), settings));
  }
  return all;
}

/** A router for each of its sizes. */
function ofSizes(config: Config, router: Router, settings: VortaSettings | undefined): RouterOfSize[] {
  const grids = config.isNull("grids") ? [] : config.value("grids");
  const isGrid = (grid: unknown): grid is Grid =>
    Array.isArray(grid) && grid.length === 3 && grid.every((n) => Number.isSafeInteger(n) && n > 0);
  if (!Array.isArray(grids) || !grids.every(isGrid)) {
    throw new TilereelError(
      `${config.path}: grids is ${
        quotedValue(grids)
      }, but a list of numbers of tokens such as [[21, 45, 80]] was expected`,
    );
  }
  const denseShare = denseShareIn(config);
  return grids.map((grid) => ({ grid, router, settings, ...denseShare > 0 && { denseShare } }));
}

function denseShareIn(config: Config): number {
  const share = config.isNull("dense_share") ? 0 : config.value("dense_share");
  if (typeof share === "number" && share >= 0 && share <= 1) return share;
  throw new TilereelError(
    `${config.path}: dense_share is ${quotedValue(share)}, but a number from 0 to 1 was expected`,
  );
}

/** The router whose tensors are behind a prefix. */
async function readRouter(source: TensorSource, isRouter: (name: string) => boolean, prefix = ""): Promise<Router> {
  const tensors = new Map<string, TorchTensor>();
  for (const name of source.names().filter((name) => name.startsWith(prefix) && isRouter(name.slice(prefix.length)))) {
    tensors.set(name.slice(prefix.length), { shape: source.info(name).shape, data: await readFloat32(source, name) });
  }
  const holds = whatTensorsAre(source);
  return routerOf(source.path, tensors, /router of VORTA/.test(holds) ? "" : holds, prefix);
}

/** A tensor's name without the additions of wrappers. */
function bareName(name: string): string {
  return name.split(".").filter((part) => !WRAPPERS.has(part)).join(".");
}

/**
 * @param holds what the file contains instead, if that is known
 * @param before what the file has before the names
 */
function routerOf(path: string, tensors: ReadonlyMap<string, TorchTensor>, holds = "", before = ""): Router {
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
      `${path} holds no router${
        holds && `, but ${holds}`
      }; tensors such as "${before}blocks.0.router.linear.weight" were ` +
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
