import { TilereelError } from "../../gpu/common/errors.ts";

/** Reasons by the name of the error. */
export const TOO_LONG = "that name is too long";

/** The most characters of a path in a message. */
const LONGEST_SHOWN = 400;

const NOT_FOUND = "ENOENT";

/** Reasons by the system's error code. */
const REASONS: Readonly<Record<string, string>> = {
  EACCES: "there is no permission",
  EDQUOT: "your disk quota is used up",
  EEXIST: "something of that name is in the way",
  EFBIG: "the file would be larger than is allowed there",
  EISDIR: "that is a folder, and a file was expected",
  ELOOP: "its links lead nowhere",
  ENAMETOOLONG: TOO_LONG,
  ENOENT: "there is no such file or folder",
  ENOSPC: "the disk is full",
  ENOTDIR: "a part of that path is a file, not a folder",
  ENOTEMPTY: "that folder exists and is not empty",
  EPERM: "there is no permission",
  EROFS: "that disk is read-only",
};

/** Of refused places: those that Deno opens with all rights alone, because most of what is there is no file. */
const OF_SYSTEM = /all access to "\/(?:dev|proc|sys)\//;
const SYSTEM_REASON = "a command reaches nothing in /dev, /proc or /sys, also not in /dev/shm";
const NO_RIGHT = "this command has no right to that place";

/** The reason in words, if it lies outside the program; otherwise undefined. */
export function systemReason(error: unknown): string | undefined {
  if (isNotAllowed(error)) return OF_SYSTEM.test(error.message) ? SYSTEM_REASON : NO_RIGHT;
  return error instanceof Error ? REASONS[codeOf(error)] : undefined;
}

/** Whether Deno refused it, because this thread has no right to it. */
export function isNotAllowed(error: unknown): error is Error {
  return error instanceof Error && error.name === "NotCapable";
}

/** Whether there is no file or folder of that name, or that is the cause of the error. */
export function isNotFound(error: unknown): boolean {
  if (typeof error !== "object" || error === null) return false;
  return (error as { code?: unknown }).code === NOT_FOUND || isNotFound((error as Error).cause);
}

/** The error for a file or folder that is missing. */
export function notFound(path: string, wanted?: string, cause: unknown = { code: NOT_FOUND }): TilereelError {
  return new TilereelError(`${shortPath(path)} does not exist${wanted ? `; ${wanted} was expected` : ""}`, { cause });
}

/** A path in a message, which may come from a foreign file. */
export function shortPath(path: string): string {
  return path.length > LONGEST_SHOWN ? `${path.slice(0, LONGEST_SHOWN / 2)}…${path.slice(-LONGEST_SHOWN / 2)}` : path;
}

/** Whether the disk was full. */
export function isDiskFull(error: unknown): boolean {
  return error instanceof Error && ["ENOSPC", "EDQUOT"].includes(codeOf(error));
}

/** The error to throw when reading or writing `path` failed with `error`. */
export function fileError(path: string, doing: "read" | "written", error: unknown): TilereelError {
  if (error instanceof TilereelError) return error;
  if (isNotFound(error)) return notFound(path, undefined, error);
  const reason = systemReason(error) ?? (error instanceof Error ? error.message : String(error));
  const remedy = isDiskFull(error) ? "; free some space" : "";
  return new TilereelError(`${shortPath(path)} cannot be ${doing}: ${reason}${remedy}`, { cause: error });
}

/** Whether there is a file or folder of that name. Throws the system's error if that cannot be determined. */
export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
}

function codeOf(error: Error & { readonly code?: string }): string {
  return error.code ?? "";
}
