import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { parseJsonObject } from "../checkpoint/json.ts";
import type { Family } from "../family.ts";

/** The name of the kind of model among the options in the metadata of routers and tiles. */
const KEY = "made for";

/** The options of a training or a search that say for which kind of model its result is. */
export function madeFor({ name }: Pick<Family, "name">): Readonly<Record<string, string>> {
  return { [KEY]: name };
}

/** The kind of model that a file was made for: "Wan 2.1". Undefined where it does not say it, as the authors' routers. */
export function madeForIn(metadata: Readonly<Record<string, string>>): string | undefined {
  const kind = parseJsonObject(metadata.options ?? "")?.[KEY];
  return typeof kind === "string" ? kind : undefined;
}

/** @throws {TilereelError} if a file was made for another kind of model */
export function checkMadeFor(path: string, kind: string | undefined, { name }: Pick<Family, "name">): void {
  if (kind === undefined || kind === name) return;
  throw new TilereelError(`${path} was made for models of ${quoted(kind)}, but this is one of ${name}; use one for it`);
}
