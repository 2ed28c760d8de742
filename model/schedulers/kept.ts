import { TilereelError } from "../../gpu/common/errors.ts";

/**
 * Checks that a scheduler keeps these tensors after so many steps.
 *
 * @throws {TilereelError} if it keeps others
 */
export function checkKept(kept: Readonly<Record<string, unknown>>, expected: readonly string[]): void {
  const names = Object.keys(kept);
  if (names.length === expected.length && expected.every((name) => Object.hasOwn(kept, name))) return;
  throw new TilereelError(
    `the clip was begun with another scheduler: it kept ${names.length} tensors for the next step, but ` +
      `${expected.length} were expected; begin it anew`,
  );
}
