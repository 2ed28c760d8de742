import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import type { PartWeights } from "../family.ts";
import type { TensorInfo } from "./tensor_source.ts";

/** Some rows of a tensor's first axis. */
export interface Rows {
  readonly start: number;
  readonly count: number;
}

/**
 * The tensors of a family in a stored one.
 *
 * @param stored its name, shape and file
 * @returns their names, and their rows if they are several
 * @throws {TilereelError} if its rows do not divide into theirs
 */
export function namedRows(
  names: NonNullable<PartWeights["names"]>,
  stored: Pick<TensorInfo, "name" | "shape" | "file">,
): readonly { readonly name: string; readonly rows?: Rows }[] {
  const named = names(stored.name), [all = 1] = stored.shape;
  if (typeof named === "string") return [{ name: named }];
  const unit = all / named.reduce((sum, { share = 1 }) => sum + share, 0);
  if (!Number.isInteger(unit)) {
    throw new TilereelError(
      `${stored.file}: the ${all} rows of ${quoted(stored.name)} do not divide into ` +
        `${named.map(({ name }) => name).join(", ")}; use a version of the model that this layout fits`,
    );
  }
  let start = 0;
  return named.map(({ name, share = 1 }) => {
    const rows = { start, count: share * unit };
    start += rows.count;
    return { name, rows };
  });
}
