/** The shipped defaults: which adapters they are for, that every entry names a variant that there is, and is right. */
import { assert, assertEquals } from "@std/assert";
import { dryGpu, NVIDIA_MATRIX_UNITS } from "../../gpu/device/dry.ts";
import { vendorOf } from "../../gpu/device/vendor.ts";
import { Gpu } from "../../gpu/gpu.ts";
import { DEFAULTS, type Defaults, defaultsFor } from "../../gpu/tuning/defaults.ts";
import { FAMILIES } from "../../gpu/tuning/families.ts";
import { kernelsInUse } from "../../gpu/tuning/in_use.ts";
import { WRONG } from "../../gpu/tuning/trial.ts";
import { assertClose, testVariants, variants } from "../gpu.ts";
import { tilereel } from "../process.ts";

/** A device as the row means it. Of makers that were not measured, one with the least that such GPUs have. */
function deviceOf({ vendor, kernels, precision }: Pick<Defaults, "vendor" | "kernels" | "precision">): Gpu {
  const matrix = kernels === "matrix" && { matrixUnits: NVIDIA_MATRIX_UNITS, dialect: "standard" as const };
  const least = { maxComputeWorkgroupStorageSize: 32768, maxComputeInvocationsPerWorkgroup: 256 };
  const some = vendor === "nvidia" ? { subgroup: 32 } : { limits: least };
  return asVendor(dryGpu({ precision, kernels, ...some, ...matrix }), vendor);
}

/** The same device, with the kernels that such GPUs use. */
function asVendor({ device, settings }: Gpu, vendor: string): Gpu {
  const gpu = new Gpu(device, { ...settings, description: { ...settings.description, vendor, software: false } });
  gpu.poison = true;
  return gpu;
}

Deno.test("every shipped default names a variant of a family, and is used", () => {
  assert(DEFAULTS.length > 0);
  for (const row of DEFAULTS) {
    const gpu = deviceOf(row);
    assertEquals(defaultsFor(gpu.settings), row);
    for (const [name, variant] of Object.entries(row.variants)) {
      const family = FAMILIES.find((family) => family.name === name);
      assert(family, `${row.for}: there is no family ${name}`);
      assert(family.variants(gpu).has(variant), `${row.for}: there is no ${variant} of ${name}`);
      assertEquals(gpu.kernels.reasonFor(family), { variant, why: "shipped" });
      assertEquals(gpu.kernels.pick(family), family.variants(gpu).get(variant));
    }
  }
  const rows = DEFAULTS.map(({ vendor, kernels, precision }) => [vendor, kernels, precision].join());
  assertEquals(new Set(rows).size, rows.length);
});

Deno.test("defaults that were not measured say so", () => {
  for (const row of DEFAULTS) assertEquals(row.for.endsWith("(not measured)"), row.measured === undefined, row.for);
  const makers = DEFAULTS.filter(({ measured }) => measured === undefined).map(({ vendor }) => vendor);
  assertEquals(new Set(makers), new Set(["amd", "intel", "apple"]));
});

// In f16, a software renderer needs minutes to compile them: others of the same code have tests.
testVariants("the shipped defaults of every maker compute what the plain kernels do", async ({ gpu }) => {
  const { kernels, precision } = gpu.settings, plain = (await variants())[0]!.gpu, done = new Set<string>();
  for (const row of DEFAULTS.filter((row) => row.kernels === kernels && row.precision === precision)) {
    const own = asVendor(gpu, row.vendor);
    for (const family of FAMILIES.filter(({ name }) => name in row.variants)) {
      const { variant, why } = own.kernels.reasonFor(family), what = `${row.for}: ${family.name}, ${variant}`;
      assertEquals(why, "shipped", what);
      if (done.has(family.name + variant)) continue;
      done.add(family.name + variant);
      const [made, expected] = await Promise.all(
        [own, plain].map((gpu) =>
          gpu.waitingScope(() => gpu.read(family.sample(gpu, gpu === own ? own.kernels.pick(family) : undefined)))
        ),
      );
      assertClose(made!, expected!, WRONG[precision], what);
    }
  }
}, ({ name, hardware }) => name === "tiled" || hardware && name !== "plain");

Deno.test("adapters without a row use the first variant of each family, and a choice comes before both", async () => {
  const gpu = deviceOf({ vendor: "amd", kernels: "tiled", precision: "f32" });
  const { defaults, measured, families } = await kernelsInUse(gpu);
  assertEquals([defaults, measured], [undefined, undefined]);
  for (const [i, family] of FAMILIES.filter((family) => family.variants(gpu).size > 1).entries()) {
    const names = [...family.variants(gpu).keys()];
    assertEquals(families[i], { family: family.name, variant: names[0]!, why: "first" });
    gpu.kernels.choose(family.name, names[1]!);
    assertEquals(gpu.kernels.reasonFor(family), { variant: names[1]!, why: "chosen" });
    assertEquals(gpu.kernels.pick(family), family.variants(gpu).get(names[1]!));
  }
});

Deno.test("the maker of a GPU is told by the source's name or number for it, or by the adapter's name", () => {
  for (
    const [vendor, name, expected] of [
      ["nvidia", "nvidia-h200 (NVIDIA: 580.159)", "nvidia"],
      ["4318", "NVIDIA H200", "nvidia"],
      ["4098", "AMD Radeon RX 7900 XTX (RADV NAVI31)", "amd"],
      ["32902", "Intel(R) Arc(tm) A770 Graphics (DG2)", "intel"],
      ["apple", "apple-m3", "apple"],
      ["0", "Apple M2 Max", "apple"],
      ["", "NVIDIA GeForce RTX 4070", "nvidia"],
      ["5045", "Adreno (TM) 740", undefined],
    ] as const
  ) {
    assertEquals(vendorOf({ vendor, name, software: false }), expected, name);
    assertEquals(vendorOf({ vendor, name, software: true }), undefined);
  }
});

Deno.test("tune says that a software adapter has nothing to choose; --tuning again is refused", async () => {
  const { code, out } = await tilereel(["tune", "--gpu", "software"]);
  assertEquals([code, /^.+ \(deno, f32\), \d\.\d s:\nthere is nothing to choose on this adapter\.\n$/.test(out)], [
    0,
    true,
  ], out);
  const { kernels, precision } = JSON.parse((await tilereel(["tune", "--gpu", "software", "--json"])).out);
  assertEquals([kernels, precision], [{ families: [] }, "f32"]);
  const refused = await tilereel(["generate", "a cat", "--tuning", "again"]);
  assertEquals([refused.code, refused.err], [1, 'tilereel: --tuning must be auto or off, not "again"\n']);
});
