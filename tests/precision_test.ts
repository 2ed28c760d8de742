import { assertEquals, assertThrows } from "@std/assert";
import { TilereelError } from "../errors.ts";
import { choosePrecision } from "../gpu/precision.ts";

const GPU = { name: "a GPU", source: "dawn", vendor: "", identity: "", software: false, features: [] } as const;
const HALF = { ...GPU, features: ["shader-f16"] };
const UNITS = { ...HALF, matrixUnits: { m: 16, n: 16, k: 16, subgroup: 32 } };

Deno.test("auto is f16 where matrix units multiply it, and f32 everywhere else", () => {
  assertEquals(choosePrecision("auto", UNITS), { precision: "f16", why: "the adapter's matrix units multiply it" });
  assertEquals(choosePrecision("auto", { ...UNITS, software: true }).precision, "f32");
  assertEquals(choosePrecision("auto", { ...UNITS, features: [] }).precision, "f32");
  assertEquals(choosePrecision("auto", HALF).precision, "f32");
  assertEquals(choosePrecision("auto", { ...HALF, source: "deno" }), {
    precision: "f32",
    why: "the adapter offers no matrix units for f16; those that a GPU has are reached over Dawn",
  });
});

Deno.test("what is asked for is used, or refused", () => {
  assertEquals(choosePrecision("f32", UNITS), { precision: "f32", why: "asked for" });
  assertEquals(choosePrecision("f16", { ...HALF, software: true }), { precision: "f16", why: "asked for" });
  assertThrows(() => choosePrecision("f16", GPU), TilereelError, "a GPU has no shader-f16, which precision f16 needs");
});
