import { forwardFamily } from "../ops/attention_family.ts";
import { CONV3D } from "../ops/conv3d.ts";
import { GEMM, GEMM_INT8 } from "../ops/gemm.ts";
import type { KernelFamily } from "./family.ts";

/** The head dimension of Wan's models. */
const HEAD_DIM = 128;

/** A family with any kind of variants. */
// deno-lint-ignore no-explicit-any
export type AnyFamily = KernelFamily<any>;

/** The families that a trial chooses from. */
export const FAMILIES: readonly AnyFamily[] = [
  GEMM,
  GEMM_INT8,
  forwardFamily({ headDim: HEAD_DIM, plan: false }),
  forwardFamily({ headDim: HEAD_DIM, plan: true }),
  CONV3D,
];
