/**
 * Stands in for `@std/assert`, which lives on JSR: the same names and signatures over `node:assert`. When JSR can be
 * reached, point the import map's `@std/assert` there and delete this file.
 *
 * @module
 */
import { ok, rejects, strict, throws } from "node:assert";

/** Fails unless `expr` is truthy. */
export function assert(expr: unknown, msg = ""): asserts expr {
  ok(expr, msg || undefined);
}

/** Fails unless both are deeply equal. */
export function assertEquals<T>(actual: T, expected: T, msg?: string): void {
  strict.deepStrictEqual(actual, expected, msg);
}

/** Fails unless the numbers lie within `tolerance` of each other. */
export function assertAlmostEquals(actual: number, expected: number, tolerance = 1e-7, msg?: string): void {
  ok(Math.abs(actual - expected) <= tolerance, msg ?? `${actual} is not within ${tolerance} of ${expected}`);
}

/** Fails if both are deeply equal. */
export function assertNotEquals(actual: unknown, expected: unknown, msg?: string): void {
  strict.notDeepEqual(actual, expected, msg);
}

/** Fails unless `actual` contains `expected`. */
export function assertStringIncludes(actual: string, expected: string, msg?: string): void {
  ok(actual.includes(expected), msg ?? `expected ${JSON.stringify(actual)} to include ${JSON.stringify(expected)}`);
}

/** Fails unless `fn` throws an `ErrorClass` whose message includes `msgIncludes`. */
export function assertThrows(
  fn: () => unknown,
  // deno-lint-ignore no-explicit-any
  ErrorClass: abstract new (...args: any[]) => Error = Error,
  msgIncludes = "",
): void {
  throws(fn, (error) => matches(error, ErrorClass, msgIncludes));
}

/** Fails unless the promise of `fn` rejects with an `ErrorClass` whose message includes `msgIncludes`. */
export async function assertRejects(
  fn: () => PromiseLike<unknown>,
  // deno-lint-ignore no-explicit-any
  ErrorClass: abstract new (...args: any[]) => Error = Error,
  msgIncludes = "",
): Promise<void> {
  await rejects(async () => await fn(), (error) => matches(error, ErrorClass, msgIncludes));
}

function matches(error: unknown, ErrorClass: abstract new (...args: never[]) => Error, msgIncludes: string): boolean {
  ok(error instanceof ErrorClass, `expected ${ErrorClass.name}, got ${error}`);
  assertStringIncludes((error as Error).message, msgIncludes);
  return true;
}
