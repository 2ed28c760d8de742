import { assertEquals, assertThrows } from "@std/assert";
import { TilereelError } from "../../gpu/common/errors.ts";
import { NVIDIA_MATRIX_UNITS } from "../../gpu/device/dry.ts";
import { choosePrecision, precisionName } from "../../gpu/precision.ts";

const GPU = { name: "a GPU", source: "dawn", vendor: "", identity: "", software: false, features: [] } as const;
const HALF = { ...GPU, features: ["shader-f16"] };
const UNITS = { ...HALF, matrixUnits: NVIDIA_MATRIX_UNITS };

Deno.test("auto is f16 on GPUs that have it, and f32 everywhere else", () => {
  assertEquals(choosePrecision("auto", UNITS), { precision: "f16", why: "the adapter's matrix units multiply it" });
  assertEquals(choosePrecision("auto", HALF), { precision: "f16", why: "the adapter has it" });
  assertEquals(choosePrecision("auto", { ...HALF, source: "deno" }), {
    precision: "f16",
    why: "the adapter has it; matrix units, where a GPU has them, are reached over Dawn",
  });
  assertEquals(choosePrecision("auto", { ...UNITS, software: true }).precision, "f32");
  assertEquals(choosePrecision("auto", GPU), { precision: "f32", why: "the adapter has no f16" });
});

Deno.test("what is asked for is used, or refused", () => {
  assertEquals(choosePrecision("f32", UNITS), { precision: "f32", why: "requested" });
  assertEquals(choosePrecision("f16", { ...HALF, software: true }), { precision: "f16", why: "requested" });
  const why = (operands: string) => `requested; all but the weights of blocks are multiplied in ${operands}`;
  const inF32 = { precision: "f32", int8: true, why: why("f32") } as const;
  assertEquals(choosePrecision("int8", UNITS), { precision: "f16", int8: true, why: why("f16") });
  assertEquals(choosePrecision("int8", GPU), inF32);
  assertEquals(choosePrecision("int8", { ...HALF, software: true }), inF32);
  assertEquals([inF32, { precision: "f16" } as const].map(precisionName), ["int8", "f16"]);
  assertThrows(() => choosePrecision("f16", GPU), TilereelError, "a GPU has no shader-f16, which precision f16 needs");
});
