import { TensorFormat } from "./format.ts";

/** Indices, counts, and anything that is packed in words. */
export const u32: TensorFormat = new TensorFormat("u32", 1, 4);
