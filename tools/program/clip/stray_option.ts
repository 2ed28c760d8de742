import { TilereelError } from "../../../gpu/common/errors.ts";
import type { OptionTable } from "../options.ts";

/** A method that has kinds, of which each takes some of its options. */
export interface Kinds {
  /** The option that names the kind. */
  readonly option: string;
  /** All options, this one included. The first that is refused is named. */
  readonly table: OptionTable;
  /** The options that each kind takes. */
  readonly takes: Readonly<Record<string, readonly string[]>>;
}

/**
 * Refuses an option of another kind.
 *
 * @param values by option
 * @param kind the kind that was chosen
 * @param taken the options that it takes. Default: as `takes` says
 * @param more is added to the message
 * @throws {TilereelError} with the `option`
 */
export function refuseStray(
  { option, table, takes }: Kinds,
  values: Readonly<Record<string, unknown>>,
  kind: string,
  { taken = takes[kind]!, more = "" }: { readonly taken?: readonly string[]; readonly more?: string } = {},
): void {
  const stray = Object.keys(table)
    .find((name) => name !== option && values[name] !== undefined && !taken.includes(name));
  if (stray === undefined) return;
  const kinds = Object.keys(takes).filter((kind) => takes[kind]!.includes(stray)).join(" or ");
  throw new TilereelError(
    `--${stray} has no effect with --${option} ${kind}: leave it out, or use --${option} ${kinds}${more}`,
    { option: stray },
  );
}
