import { kernelNamed } from "../../bench/kernels/named.ts";
import { type Modules, type RecordedVariant, recordFamilies, recordModel } from "../../bench/kernels/recorded.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import { FAMILIES } from "../../gpu/tuning/families.ts";
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { plainOnly, testVariants } from "../gpu.ts";
import { execute, program, ROOT } from "../process.ts";

testVariants(
  "kernels that are recorded without a GPU are whole modules, which compile",
  async ({ gpu: { device } }) => {
    const modules: Modules = new Map();
    const variants = await recordFamilies("deno", modules);
    await recordModel("deno", modules);
    assertEquals(new Set(variants.map(({ family }) => family)), new Set(FAMILIES.map(({ name }) => name)));
    for (const { kernels } of variants) assert(kernels.length > 0 && kernels.every((name) => modules.has(name)));
    for (const name of ["rgb8", "zero_past_length", "tile_scores_counts", "layer_norm_backward"]) {
      assert(
        modules.has(name),
        name,
      );
    }
    const counting = [...modules].filter(([, code]) => code.includes("> clamped: array<")).map(([name]) => name);
    assertEquals(counting, [], "kernels that count what f16 cannot hold, where others do not");
    const features = [[/^enable f16;/m, "shader-f16"], [
      /subgroup(Add|Max|Shuffle|Exclusive|Ballot)/,
      "subgroups",
    ]] as const;
    let compiled = 0;
    for (const [name, code] of modules) {
      if (features.some(([use, feature]) => use.test(code) && !device.features.has(feature))) continue;
      device.pushErrorScope("validation");
      device.createShaderModule({ code });
      assertEquals((await device.popErrorScope())?.message, undefined, name);
      compiled++;
    }
    assert(compiled > 50, `${compiled} of ${modules.size}`);
  },
  plainOnly,
);

Deno.test("kernels are found by their names, those of variants, and beginnings", () => {
  const modules: Modules = new Map(
    ["pack", "gemm_a_f32", "gemm_ab_f32", "attention_64", "rgb8"].map((name) => [name, ""]),
  );
  const variant = (family: string, name: string, ...kernels: string[]): RecordedVariant => ({
    ...{ family, name, kernels, device: "f32" },
  });
  const variants = [
    variant("gemm", "a", "pack", "gemm_a_f32"),
    variant("gemm", "64 by 32", "gemm_ab_f32"),
    variant("attention", "64 by 32", "attention_64"),
  ];
  const named = (name: string) => kernelNamed(name, variants, modules);
  for (
    const [name, kernel] of [
      ["rgb8", "rgb8"],
      ["rg", "rgb8"],
      ["a", "gemm_a_f32"],
      ["gemm_ab", "gemm_ab_f32"],
      ["attention", "attention_64"],
      ["gemm 64 by 32", "gemm_ab_f32"],
    ] as const
  ) assertEquals(named(name), kernel, name);
  for (
    const [name, message] of [
      ["gemm_a", '"gemm_a" means several kernels; give one of them: gemm_a_f32, gemm_ab_f32'],
      ["64 by 32", '"64 by 32" means several kernels; give one of them: gemm_ab_f32, attention_64'],
      ["gem_a_f32", 'no kernel or variant is called "gem_a_f32": did you mean "gemm_a_f32"?'],
      ["zz", 'no kernel or variant is called "zz"; leave out the name to list all'],
    ] as const
  ) assertThrows(() => named(name), TilereelError, message);
});

Deno.test("a task prints the WGSL of a kernel and nothing else", async () => {
  const run = (...args: string[]) => execute(Deno.execPath(), program("bench/kernels.ts", args), { cwd: ROOT });
  const [{ code, out, err }, unquoted] = await Promise.all([
    run("attention_tiled_128_64x32x128x8_subgroups"),
    run("64x32", "by"),
  ]);
  assertEquals([code, err], [0, ""]);
  assert(out.startsWith("enable subgroups;\nstruct Params {\n") && out.endsWith("\n}\n"), out);
  assertStringIncludes(out, "@compute @workgroup_size(128, 1, 1)\nfn main(");
  const message = 'deno task kernels: unexpected argument "by": the usage is deno task kernels [NAME] [options]; ' +
    "put quotes around text with spaces\n";
  assertEquals(unquoted, { code: 1, out: "", err: message });
});
