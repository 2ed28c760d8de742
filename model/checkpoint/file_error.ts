/**
 * What the operating system says of a file, as one sentence.
 *
 * @module
 */
import { TilereelError } from "../../errors.ts";

/** The error to throw when reading or writing `path` failed with `error`. */
export function fileError(path: string, doing: "read" | "written", error: unknown): TilereelError {
  if (error instanceof TilereelError) return error;
  if (error instanceof Deno.errors.NotFound) return new TilereelError(`${path} does not exist`, { cause: error });
  const reason = error instanceof Error ? error.message : String(error);
  return new TilereelError(`${path} cannot be ${doing}: ${reason}`, { cause: error });
}
