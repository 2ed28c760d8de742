import { join } from "node:path";
import { variable, type VariableName } from "../common/environment.ts";
import type { TuningStore } from "../tuning/choices.ts";
import { replaceFile } from "./replace_file.ts";

/** Changes with the file's layout. */
const VERSION = 1;

/**
 * The path of the file; undefined where this system has no folder for it.
 *
 * @param read reads a variable of the environment
 */
export function tuningPath(read: (name: VariableName) => string | undefined = variable): string | undefined {
  const folder = cacheFolder(read);
  return folder === undefined ? undefined : join(folder, "kernels.json");
}

function cacheFolder(read: (name: VariableName) => string | undefined): string | undefined {
  const named = read("TILEREEL_CACHE");
  if (named) return named;
  const own = (parent: string | undefined, ...rest: string[]) => parent ? join(parent, ...rest, "tilereel") : undefined;
  const home = read("HOME");
  if (Deno.build.os === "windows") return own(read("LOCALAPPDATA"));
  if (Deno.build.os === "darwin") return own(home, "Library", "Caches");
  return own(read("XDG_CACHE_HOME")) ?? own(home, ".cache");
}

/**
 * The store in a file. Whatever is wrong with the file is ignored. It is replaced as a whole, so that nobody reads half
 * of it. When two processes write at once, one of them may have to make its trial again.
 */
export function tuningFile(path: string | undefined = tuningPath()): TuningStore {
  return {
    get(key) {
      const value = readAll(path)[key];
      return value === undefined ? undefined : JSON.stringify(value);
    },
    async set(key, json) {
      if (path === undefined) return;
      const adapters = { ...readAll(path), [key]: JSON.parse(json) };
      const text = `${JSON.stringify({ version: VERSION, adapters }, null, 2)}\n`;
      await replaceFile(path, (temporary) => Deno.writeTextFile(temporary, text)).catch(() => {});
    },
  };
}

/** All that is remembered, unchecked, by its keys. */
function readAll(path: string | undefined): Record<string, unknown> {
  try {
    const { version, adapters } = JSON.parse(Deno.readTextFileSync(path!));
    return version === VERSION && typeof adapters === "object" && !Array.isArray(adapters) ? adapters ?? {} : {};
  } catch {
    return {};
  }
}
