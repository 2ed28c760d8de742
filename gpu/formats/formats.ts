/**
 * All formats, by name.
 *
 * @module
 */
import { bf16 } from "./bf16.ts";
import { f16 } from "./f16.ts";
import { f32 } from "./f32.ts";
import { f8_e4m3, f8_e5m2 } from "./float8.ts";
import { i8 } from "./i8.ts";
import type { TensorFormat } from "./format.ts";
import { GGML_FORMATS } from "./ggml.ts";
import { u32 } from "./u32.ts";

export const FORMATS = { f32, f16, bf16, f8_e4m3, f8_e5m2, i8, ...GGML_FORMATS, u32 };

/** A format, or the name of one of {@link FORMATS}. */
export type Format = TensorFormat | keyof typeof FORMATS;

/** Resolves a name. */
export function formatOf(format: Format): TensorFormat {
  return typeof format === "string" ? FORMATS[format] : format;
}
