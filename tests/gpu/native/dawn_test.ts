/**
 * Dawn as a source of devices: what happens without it, and, where it is installed and finds an adapter, that it
 * computes what Deno's own WebGPU does, and ends as it does. All kernels run on it with `TILEREEL_TEST_GPU=dawn deno
 * task test`.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { openGpu } from "../../../gpu/native/open.ts";
import { dawnAddon } from "../../../gpu/native/dawn_addon.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { type KernelSource, write } from "../../../gpu/kernel.ts";
import { linear } from "../../../gpu/ops/linear.ts";
import { assertClose, randn } from "../../gpu.ts";
import { assertRefused, execute, inTempDir, listFiles, program, QUICK, tilereel } from "../../process.ts";

/** Why Dawn cannot be tested here, if it cannot. */
const obstacle = await (async () => {
  if (dawnAddon() === undefined) return "it is not installed (deno task dawn)";
  // In a process of its own, as one that fails to load may end it.
  const { code, out, err } = await tilereel(["info", "--gpu", "dawn", "--json"]);
  if (code !== 0) return err.trim();
  return JSON.parse(out).adapters.length === 0 ? "it finds no adapter" : undefined;
})();
if (obstacle !== undefined) console.log(`Dawn itself is not tested: ${obstacle}`);

/** A test of Dawn itself. Its event loop outlives a test. */
function testDawn(name: string, fn: () => Promise<void>): void {
  Deno.test({ name, fn, ignore: obstacle !== undefined, sanitizeOps: false, sanitizeResources: false });
}

async function withDawn(work: (gpu: Gpu) => Promise<void>): Promise<void> {
  const gpu = await openGpu({ choice: "dawn", precision: "f32" });
  try {
    await work(gpu);
  } finally {
    gpu.close();
  }
}

Deno.test("an addon that cannot be had: one sentence on how to get it, and nothing is written", () =>
  inTempDir(async (dir) => {
    const out = join(dir, "x.mp4"), noAddon = join(dir, "dawn.node");
    const refused = async (message: string, addon: string) =>
      assertRefused(
        await tilereel(["generate", "a", "--out", out, ...QUICK, "--gpu", "dawn"], { env: { TILEREEL_DAWN: addon } }),
        message,
      );
    await refused(`TILEREEL_DAWN names ${noAddon}, which is not a file`, noAddon);
    await Deno.writeTextFile(noAddon, "this is no addon");
    await refused(`Dawn could not be loaded from ${noAddon} (`, noAddon);
    assertEquals(listFiles(dir), ["dawn.node"]);
    // Installed by `deno task dawn`, it is found without the variable.
    const { TILEREEL_DAWN: _, ...env } = Deno.env.toObject();
    const bare = await execute(Deno.execPath(), program("cli/main.ts", ["info", "--gpu", "dawn"]), {
      clearEnv: true,
      env,
    });
    if (bare.code !== 0) assertRefused(bare, 'is not installed: run "deno task dawn"');
  }));

Deno.test("an addon that nobody asks for is not loaded", () =>
  inTempDir(async (dir) => {
    const addon = join(dir, "dawn.node");
    await Deno.writeTextFile(addon, "this is no addon");
    const { code, out, err } = await tilereel(["info"], { env: { TILEREEL_DAWN: addon } });
    assertEquals([code, err], [0, ""]);
    assertStringIncludes(out, "through Deno's own WebGPU: it is the first one");
    assertStringIncludes(out, `and Dawn is used only with --gpu dawn; addon: ${addon}`);
  }));

Deno.test("a kernel with more storage buffers than Dawn allows is refused on every adapter", async () => {
  const gpu = await openGpu();
  const names = Array.from({ length: 17 }, (_, i) => `y${i}`);
  const buffers = Object.fromEntries(names.map((name) => [name, gpu.tensor([1])]));
  const kernel: KernelSource = {
    name: "greedy",
    buffers: Object.fromEntries(names.map((name) => [name, write("f32")])),
    params: {},
    workgroupSize: [1, 1, 1],
    body: "",
  };
  const run = async () => await gpu.run(kernel, { buffers, params: {}, workgroups: [1, 1, 1] });
  await assertRejects(run, Error, "kernel greedy: 17 storage buffers");
  gpu.close();
});

testDawn("info says that Dawn is used, and why", async () => {
  const { code, out } = await tilereel(["info", "--gpu", "dawn", "--json"]);
  assertEquals(code, 0);
  const { adapters, used } = JSON.parse(out);
  assertEquals([adapters[0].source, used.source, used.adapter], ["dawn", "dawn", adapters[0].name]);
  assertStringIncludes(used.why, "through Dawn, because of --gpu dawn");
});

testDawn("a name after dawn: picks among its adapters", async () => {
  await withDawn(async ({ settings: { description: { name } } }) => {
    const gpu = await openGpu({ choice: `dawn:${name.slice(0, 6).toUpperCase()}` });
    assertEquals(gpu.settings.description.source, "dawn");
    gpu.close();
    await assertRejects(() => openGpu({ choice: "dawn:abacus" }), TilereelError, `this machine has "${name}`);
  });
});

testDawn("a matrix product is that of Deno's own WebGPU", () =>
  withDawn(async (dawn) => {
    const x = randn(37 * 72, 1), w = randn(50 * 72, 2);
    const product = async (gpu: Gpu) => await gpu.read(linear(gpu, gpu.upload(x, [37, 72]), gpu.upload(w, [50, 72])));
    const deno = await openGpu();
    assertClose(await product(dawn), await product(deno), 2e-6);
    deno.close();
  }));

/** Sums over subgroups, then writes how many took part beside the sum of their lanes' ones. */
const SUBGROUP_SUM: KernelSource = {
  name: "subgroup_sum",
  buffers: { y: write("u32") },
  params: { one: "u32" },
  workgroupSize: [64, 1, 1],
  subgroups: true,
  body: "  y[li] = subgroupAdd(p.one);",
};

for (const choice of ["auto", "dawn"]) {
  Deno.test({
    name: `a kernel with subgroups, ${choice}`,
    ignore: choice === "dawn" && obstacle !== undefined,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async (t) => {
      const gpu = await openGpu({ choice });
      await t.step({
        name: "where there are subgroups",
        ignore: !gpu.settings.description.features.includes("subgroups"),
        sanitizeOps: false,
        sanitizeResources: false,
        fn: async () => {
          const y = gpu.tensor([64], "u32");
          gpu.run(SUBGROUP_SUM, { buffers: { y }, params: { one: 1 }, workgroups: [1, 1, 1] });
          const sums = new Uint32Array(await gpu.readBytes(y));
          assert(sums[0]! >= 4 && sums[0]! <= 64, `${sums[0]}`);
          assertEquals([...sums], Array(64).fill(sums[0]));
        },
      });
      gpu.close();
    },
  });
}

testDawn("a lost device, and a kernel that its compiler refuses, are told as ever", async () => {
  await withDawn(async (gpu) => {
    const numbers = gpu.upload(new Float32Array(8), [8]);
    const finish = gpu.finish.bind(gpu);
    gpu.finish = () => {
      const finished = finish();
      gpu.device.destroy();
      return finished;
    };
    await assertRejects(() => gpu.read(numbers), TilereelError, "the GPU was lost while working");
  });
  await withDawn(async (gpu) => {
    const wrong = { ...SUBGROUP_SUM, body: "  let x: i32 = 1u;" };
    gpu.run(wrong, { buffers: { y: gpu.tensor([64], "u32") }, params: { one: 1 }, workgroups: [1, 1, 1] });
    await assertRejects(() => gpu.finish(), Error, "WebGPU: Error while parsing WGSL");
  });
});

testDawn("the process ends by itself, with the device closed or not", () =>
  inTempDir(async (dir) => {
    for (const end of ["gpu.close();", ""]) {
      const script = join(dir, "end.ts");
      await Deno.writeTextFile(
        script,
        `import { openGpu } from ${JSON.stringify(import.meta.resolve("../../../gpu/native/open.ts"))};
const gpu = await openGpu({ choice: "dawn" });
console.log((await gpu.read(gpu.upload(new Float32Array([3]), [1])))[0]);
${end}`,
      );
      const args = ["run", "-A", "--no-check", "--quiet", script];
      const { code, out } = await execute(Deno.execPath(), args, { signal: AbortSignal.timeout(30_000) });
      assertEquals([code, out], [0, "3\n"]);
    }
  }));
