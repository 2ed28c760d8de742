/**
 * Where the choices of kernels are remembered: one JSON file for all adapters of this machine. It holds nothing that
 * cannot be made again, so whatever is wrong with it is passed over.
 *
 * @module
 */
import { dirname, join } from "node:path";
import { variable, type VariableName } from "../common/environment.ts";

/** Changes with the file's layout. */
const VERSION = 1;

/** What a trial found of one family. */
export interface FamilyChoice {
  /** The fastest variant. */
  readonly variant: string;
  /** Milliseconds of each variant that ran; of slow ones of a single run. */
  readonly ms: Readonly<Record<string, number>>;
}

/** What a trial found. */
export interface KernelChoices {
  /** What it chose from: see `digestOf` in `tune.ts`. */
  readonly families: string;
  /** When, as an ISO date. */
  readonly measured: string;
  /** By the names of the families. */
  readonly choices: Readonly<Record<string, FamilyChoice>>;
}

/**
 * The file; undefined where this system has no folder for it.
 *
 * @param read reads a variable of the environment
 */
export function cacheFile(read: (name: VariableName) => string | undefined = variable): string | undefined {
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

/** What is remembered under a key; undefined if nothing can be read. */
export function readChoices(key: string): KernelChoices | undefined {
  const choices = readAll()[key];
  return isKernelChoices(choices) ? choices : undefined;
}

/**
 * Remembers; does nothing where the file cannot be written. It is replaced as a whole, so that no one reads half of it.
 * When two processes write at once, one of them may have to measure again.
 */
export function writeChoices(key: string, choices: KernelChoices): void {
  const file = cacheFile();
  if (file === undefined) return;
  const temporary = `${file}.${crypto.randomUUID()}.tmp`;
  // Not asynchronous: Ctrl-C cannot come between and leave the temporary file.
  try {
    Deno.mkdirSync(dirname(file), { recursive: true });
    const text = JSON.stringify({ version: VERSION, adapters: { ...readAll(), [key]: choices } }, null, 2);
    Deno.writeTextFileSync(temporary, `${text}\n`, { createNew: true });
    Deno.renameSync(temporary, file);
  } catch {
    try {
      Deno.removeSync(temporary);
    } catch {
      // It was never made.
    }
  }
}

/** All that is remembered, unchecked, by its keys. */
function readAll(): Record<string, unknown> {
  const file = cacheFile();
  try {
    const { version, adapters } = JSON.parse(Deno.readTextFileSync(file!));
    return version === VERSION && isObject(adapters) ? adapters : {};
  } catch {
    return {};
  }
}

function isKernelChoices(value: unknown): value is KernelChoices {
  if (!isObject(value) || typeof value.families !== "string" || typeof value.measured !== "string") return false;
  return isObject(value.choices) && Object.values(value.choices).every(isFamilyChoice);
}

function isFamilyChoice(value: unknown): boolean {
  if (!isObject(value) || typeof value.variant !== "string" || !isObject(value.ms)) return false;
  return value.variant in value.ms && Object.values(value.ms).every((ms) => typeof ms === "number");
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
