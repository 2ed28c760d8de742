import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { didYouMean } from "../../gpu/common/nearest.ts";
import type { Modules, RecordedVariant } from "./recorded.ts";

/** The largest number of kernels that a message lists. */
const MOST_NAMED = 6;

/**
 * Finds a kernel by its own name, by the name of its variant (with or without the family before it), or by the beginning
 * of one of these.
 *
 * @throws {TilereelError} when it means none, or several
 */
export function kernelNamed(given: string, variants: readonly RecordedVariant[], modules: Modules): string {
  if (modules.has(given)) return given;
  const names = [
    ...[...modules.keys()].map((name) => [name, name] as const),
    ...variants.flatMap(({ family, name, kernels }) => {
      const kernel = kernels.at(-1)!;
      return [[name, kernel], [`${family} ${name}`, kernel]] as const;
    }),
  ];
  const exact = names.filter(([name]) => name === given);
  const meant = exact.length > 0 ? exact : names.filter(([name]) => name.startsWith(given));
  const found = [...new Set(meant.map(([, kernel]) => kernel))];
  if (found.length === 1) return found[0]!;
  if (found.length === 0) {
    const near = didYouMean(given, names.map(([name]) => name), (name) => quoted(name));
    throw new TilereelError(
      `no kernel or variant is called ${quoted(given)}${near || "; leave out the name to list all"}`,
    );
  }
  const some = found.slice(0, MOST_NAMED).join(", ");
  const rest = found.length > MOST_NAMED ? ` and ${found.length - MOST_NAMED} more` : "";
  throw new TilereelError(`${quoted(given)} means several kernels; give one of them: ${some}${rest}`);
}
