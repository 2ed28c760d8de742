/**
 * The trial that chooses kernels, and the file that remembers it, with families made for the purpose: on this machine's
 * adapter as if it were a GPU.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";
import { Gpu, type GpuSettings } from "../../gpu/gpu.ts";
import { type KernelSource, write } from "../../gpu/kernel.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { tuningFile, tuningPath } from "../../gpu/native/tuning_file.ts";
import type { KernelFamily } from "../../gpu/tuning/family.ts";
import { FAMILIES } from "../../gpu/tuning/families.ts";
import { wallStopwatch } from "../../gpu/tuning/stopwatch.ts";
import { tryFamily, WRONG as WRONG_BEYOND } from "../../gpu/tuning/trial.ts";
import { rememberedChoices, tuneKernels, type TuneOptions, useRemembered } from "../../gpu/tuning/tune.ts";
import { assertClose, exceptPlain, openTestGpu, testVariants } from "../gpu.ts";
import { inTempDir, listFiles, ROOT, tilereel } from "../process.ts";

/** Adds up so many terms for each of `y`. */
function summing(name: string, terms: number): KernelSource {
  return {
    name,
    buffers: { y: write("f32") },
    params: { count: "u32" },
    workgroupSize: [64, 1, 1],
    body: `  var sum = 0.0;
  for (var i = 0u; i < ${terms}u; i++) { sum = sum * 0.999 + f32(i + gid.x); }
  if (gid.x < p.count) { y[gid.x] = sum; }`,
  };
}

/** So far apart that no other work on this machine makes one the other. */
const FAST = summing("fast", 100), SLOW = summing("slow", 10_000);
const WRONG = summing("wrong", 10);
const BROKEN: KernelSource = { ...summing("broken", 1), body: "  y[0] = nonsense(p.count);" };

/** Milliseconds: a software renderer has no low clock. */
const WARM_UP = 50;

/** As {@link tuneKernels}, with hardly any time to get warm. */
function tune(gpu: Gpu, options: TuneOptions): ReturnType<typeof tuneKernels> {
  return tuneKernels(gpu, { warmUp: WARM_UP, ...options });
}

/** A family of kernels, and how often each was recorded. */
function familyOf(name: string, variants: Readonly<Record<string, KernelSource | "throws">>) {
  const runs: Record<string, number> = {};
  const family: KernelFamily<string> = {
    name,
    variants: () => new Map(Object.keys(variants).map((name) => [name, name])),
    trial: (gpu) => {
      const y = gpu.tensor([8191]);
      return (variant) => {
        runs[variant] = (runs[variant] ?? 0) + 1;
        const kernel = variants[variant]!;
        if (kernel === "throws") throw new Error("this variant cannot be run");
        sum(gpu, kernel, y);
      };
    },
    // All that are right add up the same here, however long they take when they are timed.
    sample: (gpu, variant = "") => {
      const y = gpu.tensor([100]), kernel = variants[variant];
      sum(gpu, kernel === BROKEN || kernel === WRONG ? kernel : FAST, y);
      return y;
    },
  };
  return { family, runs };
}

function sum(gpu: Gpu, kernel: KernelSource, y: Tensor): void {
  gpu.run(kernel, { buffers: { y }, params: { count: y.size }, workgroups: [Math.ceil(y.size / 64), 1, 1] });
}

/** Runs a test in a cache folder of its own, on this machine's adapter with what is given said of it. */
function testTuning(
  name: string,
  test: (place: {
    open: (about?: Partial<GpuSettings["description"]>, more?: Partial<GpuSettings>) => Gpu;
    dir: string;
  }) => Promise<void>,
): void {
  Deno.test({
    name,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: () =>
      inTempDir(async (dir) => {
        const tuningStore = tuningFile(join(dir, "cache/kernels.json"));
        const { device, settings } = await openTestGpu();
        const open = (about: Partial<GpuSettings["description"]> = {}, more: Partial<GpuSettings> = {}) => {
          const description = { ...settings.description, software: false, ...about };
          const gpu = new Gpu(device, { ...settings, kernels: "tiled", description, tuningStore, ...more });
          gpu.poison = true;
          return gpu;
        };
        try {
          await test({ open, dir });
        } finally {
          device.destroy();
        }
      }),
  });
}

testTuning(
  "the fastest variant is chosen; those that are wrong, or do not compile or run, are left out",
  async ({ open }) => {
    const gpu = open();
    const { family, runs } = familyOf("sums", {
      slow: SLOW,
      wrong: WRONG,
      broken: BROKEN,
      fast: FAST,
      throws: "throws",
    });
    const { family: hopeless } = familyOf("hopeless", { broken: BROKEN, throws: "throws" });
    assertEquals(gpu.kernels.pick(family), "slow");
    const progress: string[] = [];
    const choices = await tune(gpu, {
      families: [family, hopeless],
      onProgress: ({ stage, done, total }) => progress.push(`${stage} ${done}/${total}`),
    });
    assertEquals(gpu.kernels.pick(family), "fast");
    assertEquals(gpu.kernels.pick(hopeless), "broken");
    // Once to list its kernels; one that is wrong does not run after that.
    assertEquals([runs.wrong, runs.broken, runs.throws], [1, 1, 2]);
    const { sums, ...others } = choices!.choices;
    assertEquals([sums!.variant, Object.keys(sums!.ms), others], ["fast", ["slow", "fast"], {}]);
    assert(sums!.ms.fast! > 0 && sums!.ms.slow! > sums!.ms.fast!, JSON.stringify(sums));
    assertEquals(progress, Array.from({ length: 8 }, (_, i) => `choose kernels ${i}/7`));
    assertEquals(gpu.memory.held, 0);
    // The failures left no trace.
    const y = gpu.tensor([3]);
    sum(gpu, FAST, y);
    assert((await gpu.read(y)).every(Number.isFinite));
  },
);

testTuning("plain kernels that do not run do not keep variants from being tried", async ({ open }) => {
  const gpu = open();
  const { family } = familyOf("sums", { slow: SLOW, fast: FAST });
  const sample = (on: Gpu, variant?: string) => {
    const y = on.tensor([100]);
    sum(on, variant === undefined ? BROKEN : FAST, y);
    return y;
  };
  assertEquals((await tune(gpu, { families: [{ ...family, sample }] }))?.choices.sums?.variant, "fast");
  const y = gpu.tensor([3]);
  sum(gpu, FAST, y);
  assert((await gpu.read(y)).every(Number.isFinite));
});

testTuning("a variant that is clearly slower is timed once", async ({ open }) => {
  const { family, runs } = familyOf("sums", { fast: FAST, slow: SLOW });
  await tune(open(), { families: [family] });
  // To list its kernels, to compile what is left, on the cold GPU, and then.
  assertEquals(runs.slow, 4);
  assert(runs.fast! > 5, `${runs.fast}`);
});

testTuning("a trial whose time is up tries no more variants; the one that is used comes first", async ({ open }) => {
  const gpu = open(), { family, runs } = familyOf("sums", { slow: SLOW, other: SLOW, fast: FAST });
  gpu.kernels.choose("sums", "fast");
  const told: number[] = [];
  const choices = await tune(gpu, { families: [family], seconds: 1e-3, onProgress: ({ done }) => told.push(done) });
  assertEquals(choices?.choices.sums?.variant, "fast");
  assertEquals([Object.keys(choices!.choices.sums!.ms), runs.slow, runs.other], [["fast"], undefined, undefined]);
  assertEquals(told, [0, 1, 3]);
});

testTuning("without timestamps this machine's clock is read, and short work is repeated", async ({ open }) => {
  const gpu = open({ features: [] });
  const { family, runs } = familyOf("sums", { slow: FAST, fast: FAST });
  const cost: Readonly<Record<string, number>> = { slow: 30, fast: 5 };
  let clock = 0, profiled = false;
  const trial: typeof family.trial = (gpu) => {
    const record = family.trial(gpu);
    return (variant) => {
      record(variant);
      clock += cost[variant]!;
      profiled ||= gpu.profiler !== undefined;
    };
  };
  const timed = { ...family, trial }, stopwatch = wallStopwatch(gpu, () => clock);
  const choice = await tryFamily(gpu, timed, { stopwatch, warmUp: WARM_UP }, () => {});
  assertEquals(choice, { variant: "fast", ms: cost });
  // To list and compile its kernels, on the cold GPU, and then; where it is timed, once alone and once for a sample of
  // 50 ms.
  assertEquals(runs.slow, 2 + 3 + 3);
  const { sums } = (await tune(gpu, { families: [timed] }))!.choices;
  assertEquals([Object.keys(sums!.ms), profiled], [["slow", "fast"], false]);
});

testTuning("a family without room for its operands keeps its first variant", async ({ open }) => {
  const gpu = open();
  const huge: KernelFamily<string> = {
    ...familyOf("huge", { slow: SLOW, fast: FAST }).family,
    trial: (gpu) => {
      gpu.tensor([2 ** 40]);
      throw new Error("there is room");
    },
  };
  const { family } = familyOf("sums", { slow: SLOW, fast: FAST });
  const done: number[] = [];
  const choices = await tune(gpu, { families: [huge, family], onProgress: (p) => done.push(p.done) });
  assertEquals(Object.keys(choices!.choices), ["sums"]);
  assertEquals([gpu.kernels.pick(huge), gpu.kernels.pick(family)], ["slow", "fast"]);
  assertEquals(done, [0, 2, 3, 4]);
});

testTuning("what was chosen is remembered, for each adapter and precision", async ({ open, dir }) => {
  const { family, runs } = familyOf("sums", { slow: SLOW, fast: FAST });
  const families = [family];
  const first = await tune(open(), { families });
  assertEquals(listFiles(join(dir, "cache")), ["kernels.json"]);
  const total = () => (runs.fast ?? 0) + (runs.slow ?? 0);
  const once = total();
  const again = open();
  assertEquals(await tune(again, { families }), first);
  assertEquals([again.kernels.pick(family), total()], ["fast", once]);
  // Another adapter, another driver: tried by themselves, and nothing is forgotten.
  const source = again.settings.description.source === "dawn" ? "deno" as const : "dawn" as const;
  for (const about of [{ name: "another" }, { identity: "another driver" }, { source }]) {
    const before = total();
    assertEquals(await rememberedChoices(open(about), families), undefined);
    await tune(open(about), { families });
    assert(total() > before);
    assert(await rememberedChoices(open(about), families));
  }
  assertEquals(await rememberedChoices(open(), families), first);
  // Another set of variants, or the wish for it: tried anew.
  const more = familyOf("sums", { slow: SLOW, fast: FAST, third: SLOW });
  await tune(open(), { families: [more.family] });
  assert(more.runs.third);
  const before = total();
  await tune(open(), { families, again: true });
  assert(total() > before);
});

testTuning("a device that is opened uses what is remembered, and makes no trial", async ({ open, dir }) => {
  const { family, runs } = familyOf("sums", { slow: SLOW, fast: FAST });
  const families = [family], gpu = open();
  assertEquals(await useRemembered(gpu, families), undefined);
  assertEquals([gpu.kernels.reasonFor(family), runs, listFiles(dir)], [{ variant: "slow", why: "first" }, {}, []]);
  const found = await tune(open(), { families }), before = { ...runs };
  assertEquals(await useRemembered(gpu, families), found);
  assertEquals([gpu.kernels.reasonFor(family), runs], [{ variant: "fast", why: "chosen" }, before]);
});

testTuning(
  "kernels that are compiled ahead run nothing, and those that fail are told when they run",
  async ({ open }) => {
    const gpu = open(), y = gpu.upload(new Float32Array(100), [100]), before = gpu.memory.held;
    await gpu.compileAhead([
      () => sum(gpu, FAST, gpu.tensor([100])),
      () => sum(gpu, FAST, y),
      () => sum(gpu, BROKEN, y),
      () => {
        throw new Error("this variant cannot be run");
      },
    ]);
    gpu.trim();
    assertEquals([await gpu.read(y), gpu.memory.held], [new Float32Array(100), before]);
    const compile = gpu.device.createComputePipeline;
    let compiled = 0;
    gpu.device.createComputePipeline = function (descriptor) {
      compiled++;
      return compile.call(this, descriptor);
    };
    try {
      sum(gpu, FAST, y);
      assert((await gpu.read(y)).every((number) => number > 0));
      assertEquals(compiled, 0);
      assert(await gpu.attempt(() => sum(gpu, BROKEN, y)) instanceof Error);
    } finally {
      gpu.device.createComputePipeline = compile;
    }
  },
);

testTuning("a software adapter's kernels are not tried", async ({ open, dir }) => {
  const { family, runs } = familyOf("sums", { slow: SLOW, fast: FAST });
  const gpu = open({ software: true });
  assertEquals(await tune(gpu, { families: [family] }), undefined);
  assertEquals([gpu.kernels.pick(family), runs, listFiles(dir)], ["slow", {}, []]);
});

testTuning("a damaged file is made anew, and one that cannot be written is done without", async ({ open, dir }) => {
  const { family, runs } = familyOf("sums", { slow: SLOW, fast: FAST });
  const families = [family];
  await tune(open(), { families });
  const file = join(dir, "cache/kernels.json");
  const good = await Deno.readTextFile(file);
  const edited = (edit: (entry: Record<string, unknown>) => unknown) => {
    const all = JSON.parse(good);
    const [key] = Object.keys(all.adapters);
    return JSON.stringify({ ...all, adapters: { [key!]: edit(all.adapters[key!]) } });
  };
  const damaged = [
    ...["", "{", good.slice(0, -20), "null", "[]", "17", `{"version": 1}`, `{"version": 1, "adapters": []}`],
    good.replace('"version": 1', '"version": 0'),
    edited(() => null),
    edited((entry) => ({ ...entry, families: "0" })),
    edited((entry) => ({ ...entry, choices: [] })),
    edited((entry) => ({ ...entry, choices: { sums: { variant: "none", ms: { fast: 1 } } } })),
    edited((entry) => ({ ...entry, choices: { sums: { variant: "fast", ms: { fast: "1" } } } })),
  ];
  for (const text of damaged) {
    await Deno.writeTextFile(file, text);
    assertEquals(await rememberedChoices(open(), families), undefined, text);
  }
  for (const text of [damaged[1]!, damaged.at(-1)!]) {
    await Deno.writeTextFile(file, text);
    const before = runs.fast!;
    await tune(open(), { families });
    assert(runs.fast! > before);
    assert(await rememberedChoices(open(), families));
    assertEquals(Object.keys(JSON.parse(await Deno.readTextFile(file))), ["version", "adapters"]);
  }
  // A folder in its place, and a file in the folder's.
  await Deno.remove(file);
  await Deno.mkdir(join(file, "inner"), { recursive: true });
  for (const place of [join(dir, "cache"), join(dir, "file/cache"), "/dev/null/cache"]) {
    if (place.includes("file")) await Deno.writeTextFile(join(dir, "file"), "");
    const gpu = open({}, { tuningStore: tuningFile(join(place, "kernels.json")) });
    await tune(gpu, { families });
    assertEquals(gpu.kernels.pick(family), "fast");
  }
  assertEquals(listFiles(dir), ["cache/", "cache/kernels.json/", "cache/kernels.json/inner/", "file"]);
});

Deno.test("the file lies in the user's cache folder", { ignore: Deno.build.os !== "linux" }, () => {
  for (
    const [variables, file] of [
      [{ TILEREEL_CACHE: "/t", XDG_CACHE_HOME: "/x", HOME: "/h" }, "/t/kernels.json"],
      [{ XDG_CACHE_HOME: "/x", HOME: "/h" }, "/x/tilereel/kernels.json"],
      [{ TILEREEL_CACHE: "", XDG_CACHE_HOME: "", HOME: "/h" }, "/h/.cache/tilereel/kernels.json"],
      [{}, undefined],
    ] as const
  ) {
    assertEquals(tuningPath((name) => (variables as Record<string, string>)[name]), file);
  }
});

Deno.test("processes that write at once leave a whole file", () =>
  inTempDir(async (dir) => {
    const script = join(dir, "write.ts");
    await Deno.writeTextFile(
      script,
      `import { tuningFile } from ${JSON.stringify(join(ROOT, "gpu/native/tuning_file.ts"))};
const store = tuningFile();
const choices = { sums: { variant: "fast", ms: { fast: 1, padding: ${"1".repeat(300)} } } };
for (let i = 0; i < 100; i++) {
  await store.set(Deno.args[0], JSON.stringify({ families: "f", measured: String(i), choices }));
}`,
    );
    const env = { TILEREEL_CACHE: join(dir, "cache") };
    const processes = ["a", "b", "c"].map((key) =>
      new Deno.Command(Deno.execPath(), { args: ["run", "-A", "--no-check", "--quiet", script, key], env }).output()
    );
    let [running, looks] = [true, 0];
    const ended = Promise.all(processes).then((outputs) => {
      running = false;
      return outputs;
    });
    const file = join(dir, "cache/kernels.json");
    while (running) {
      await new Promise((resolve) => setTimeout(resolve, 2));
      const text = await Deno.readTextFile(file).catch(() => undefined);
      if (text === undefined) continue;
      assertEquals(JSON.parse(text).version, 1);
      looks++;
    }
    assertEquals((await ended).map(({ code }) => code), [0, 0, 0]);
    assert(looks > 0);
    assertEquals(listFiles(join(dir, "cache")), ["kernels.json"]);
    // Each had its say last of its own, or was overwritten as a whole by one that had not seen it.
    const { adapters } = JSON.parse(await Deno.readTextFile(file));
    assert(Object.values(adapters).some((entry) => (entry as { measured: string }).measured === "99"));
  }));

testTuning("a device that is lost in a trial is told, and its family left alone the next time", async ({ open }) => {
  const { family } = familyOf("sums", { slow: SLOW, fast: FAST });
  const gpu = open();
  const deadly: KernelFamily<string> = {
    ...familyOf("deadly", { slow: SLOW, fast: FAST }).family,
    trial: (gpu) => () => gpu.device.destroy(),
  };
  const families = [family, deadly];
  await assertRejects(() => tune(gpu, { families }), TilereelError, "the GPU was lost while working");
  const { device, settings } = await openTestGpu();
  const description = { ...settings.description, software: false };
  const next = new Gpu(device, { ...settings, kernels: "tiled", description, tuningStore: gpu.settings.tuningStore });
  assertEquals(Object.keys((await tune(next, { families }))!.choices), ["sums"]);
  assertEquals([next.kernels.pick(family), next.kernels.pick(deadly)], ["fast", "slow"]);
  device.destroy();
});

testTuning("an attempt does not forgive a lost device", async ({ open }) => {
  const gpu = open();
  await assertRejects(
    () =>
      gpu.attempt(() => {
        sum(gpu, FAST, gpu.tensor([3]));
        gpu.device.destroy();
      }),
    TilereelError,
    "the GPU was lost while working",
  );
});

Deno.test("info says in what precision and with which kernels the adapter works", async () => {
  const { code, out } = await tilereel(["info", "--gpu", "software"]);
  assertEquals(code, 0);
  assertStringIncludes(out, "Precision: f32, the adapter is software.\nKernels: there is nothing to choose");
  const { used } = JSON.parse((await tilereel(["info", "--gpu", "software", "--json"])).out);
  assertEquals([used.precision, used.precisionReason, used.kernels], ["f32", "the adapter is software", {
    families: [],
  }]);
});

// On a software renderer, whose compiler needs minutes for all, the one that runs: others of the same code have tests.
testVariants(
  "what a trial may choose computes its sample within the trial's bound",
  async ({ gpu, name, hardware }) => {
    const { device, settings } = gpu;
    const plain = new Gpu(device, { ...settings, kernels: "plain", precision: "f32" });
    for (const family of FAMILIES) {
      const variants = [...family.variants(gpu)], tried = hardware ? variants : variants.slice(0, 1);
      const reference = await plain.waitingScope(() => plain.read(family.sample(plain)));
      for (const [variant, chosen] of tried) {
        const numbers = await gpu.waitingScope(() => gpu.read(family.sample(gpu, chosen)));
        assertClose(numbers, reference, WRONG_BEYOND[gpu.settings.precision], `${family.name}, ${variant}, ${name}`);
      }
      // Not of numbers that any kernel would give.
      assert(reference.some((x) => Math.abs(x) > 0.1) && new Set(reference).size > reference.length / 2, family.name);
    }
  },
  exceptPlain,
);
