import { statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { variable } from "../common/environment.ts";
import { TilereelError } from "../common/errors.ts";

/** The environment variable with the path of the addon. Without it, the package is resolved as Node does. */
export const DAWN_VARIABLE = "TILEREEL_DAWN";

/** The name of the folder in the package for this operating system and CPU. */
export const DAWN_FOLDER = join(
  "dist",
  Deno.build.os === "darwin"
    ? "darwin-universal"
    : `${Deno.build.os === "windows" ? "win32" : Deno.build.os}-${Deno.build.arch === "aarch64" ? "arm64" : "x64"}`,
);
const ADDON = join(DAWN_FOLDER, "dawn.node");

interface Addon {
  create(options: string[]): GPU;
  /** Dawn's own classes, by the names that the standard gives them. */
  readonly globals: Readonly<Record<string, { readonly prototype: Record<string, (...args: unknown[]) => unknown> }>>;
}

/** The path of the addon that would be loaded, or undefined. */
export function dawnAddon(): string | undefined {
  const named = variable(DAWN_VARIABLE);
  if (named) return resolve(named);
  let folder = import.meta.dirname;
  while (folder !== undefined) {
    const path = join(folder, "node_modules", "webgpu", ADDON);
    if (isFile(path)) return path;
    folder = dirname(folder) === folder ? undefined : dirname(folder);
  }
  return undefined;
}

/**
 * Loads Dawn, which is the Node-API addon of the npm package `webgpu`. It is loaded as a file, never as a package: Deno
 * would note the package in `deno.lock`, and every fresh clone would download its 51 MB.
 *
 * @throws {TilereelError} where it is not installed, or is no addon for this system
 */
export function loadDawn(): Addon {
  const path = dawnAddon();
  if (path === undefined) {
    throw new TilereelError(
      '--gpu dawn needs the npm package webgpu, which is not installed: run "deno task dawn" in tilereel\'s checkout, ' +
        `or set ${DAWN_VARIABLE} to the path of that package's ${ADDON}`,
    );
  }
  if (!isFile(path)) {
    throw new TilereelError(`${DAWN_VARIABLE} names ${path}, which is not a file: name Dawn's dawn.node`);
  }
  let addon: Partial<Addon>;
  try {
    addon = createRequire(import.meta.url)(path);
  } catch (cause) {
    const [reason] = (cause instanceof Error ? cause.message : String(cause)).split("\n");
    throw new TilereelError(
      `Dawn could not be loaded from ${path} (${reason}): it must be the dawn.node for this system, ` +
        `${ADDON} in the npm package webgpu`,
    );
  }
  if (typeof addon.create !== "function" || !addon.globals) {
    throw new TilereelError(`${path} is not Dawn: name the dawn.node of the npm package webgpu in ${DAWN_VARIABLE}`);
  }
  pollByTimer(addon.globals);
  return addon as Addon;
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}

/** Dawn's methods whose results the addon polls for. */
const AWAITED: Readonly<Record<string, readonly string[]>> = {
  GPUAdapter: ["requestDevice"],
  GPUBuffer: ["mapAsync"],
  GPUDevice: ["createComputePipelineAsync", "popErrorScope"],
  GPUQueue: ["onSubmittedWorkDone"],
  GPUShaderModule: ["getCompilationInfo"],
};

/** Milliseconds between two checks whether the GPU is done: a share of the time that it has taken, within limits. */
const POLL_SHARE = 0.02, LEAST_POLL_MS = 1, MOST_POLL_MS = 10;

/**
 * While the GPU works, the addon polls it in every turn of the event loop, by a native function that it creates anew
 * each time and gives to `setImmediate`: about fifty per millisecond. Collecting ten thousand of these stops Deno 2.9.6
 * for more than a second, in which the GPU may run out of work. So Dawn's methods are wrapped: they give the addon a
 * timer instead.
 */
function pollByTimer(classes: Addon["globals"]): void {
  for (const [name, methods] of Object.entries(AWAITED)) {
    const { prototype } = classes[name]!;
    for (const method of methods) {
      const native = prototype[method]!;
      prototype[method] = function (...args) {
        return withTimer(() => native.apply(this, args));
      };
    }
  }
}

/** Runs native code that looks up `setImmediate`, which is a timer meanwhile: no other code can see that. */
function withTimer<T>(native: () => T, begun = performance.now()): T {
  const { setImmediate } = globalThis;
  const timer = (poll: () => void) => {
    const pause = POLL_SHARE * (performance.now() - begun);
    return setTimeout(withTimer, Math.min(Math.max(LEAST_POLL_MS, pause), MOST_POLL_MS), poll, begun);
  };
  globalThis.setImmediate = timer as unknown as typeof setImmediate;
  try {
    return native();
  } finally {
    globalThis.setImmediate = setImmediate;
  }
}
