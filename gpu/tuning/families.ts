/**
 * The families of kernels that an adapter's trial goes through.
 *
 * @module
 */
import type { KernelFamily } from "./family.ts";

/** A family of any kind of variant. */
// deno-lint-ignore no-explicit-any
export type AnyFamily = KernelFamily<any>;

/** See the module. */
export const FAMILIES: readonly AnyFamily[] = [];
