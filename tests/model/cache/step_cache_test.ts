/** Step caches act where they should: these are toys that decide by the number of the step, on two families. */
import { countModel } from "../../../bench/memory/count.ts";
import { drySource } from "../../../bench/full_size/made_source.ts";
import { SHAPES } from "../../../bench/shapes.ts";
import { dryGpu } from "../../../gpu/device/dry.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { combine } from "../../../gpu/ops/combine.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import { fullAttention } from "../../../model/attention/full.ts";
import type { AttentionMethod } from "../../../model/attention/method.ts";
import { cacheBytes, type CacheHooks, type CacheTask, type StepCache } from "../../../model/cache/step_cache.ts";
import { openModel } from "../../../model/checkpoint/model_folder.ts";
import { embeddedModelDir } from "../../../model/embedded.ts";
import { registerFamily } from "../../../model/families.ts";
import type { PassName } from "../../../model/guidance.ts";
import { type GenerateOptions, VideoPipeline } from "../../../model/pipeline.ts";
import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { assertClose, variants } from "../../gpu.ts";
import { TOY, toyModel } from "../toy_family.ts";

registerFamily(TOY);
const CLIP = { prompt: "a red circle", negativePrompt: "blur", width: 32, height: 32, steps: 4, guidance: 3, seed: 3 };
const MODELS = {
  "Wan's demo": { open: () => openModel(embeddedModelDir()), frames: 5, modules: 2 },
  "the toy family": { open: () => openModel(toyModel()), frames: 4, modules: 1 },
};

/** A pass's tensors from one step to the next. */
class Kept {
  readonly #tensors = new Map<string, Tensor>();

  constructor(readonly gpu: Gpu, private readonly owner: TensorOwner) {}

  set(name: string, tensor: Tensor): Tensor {
    const before = this.#tensors.get(name);
    if (before) this.owner.free(before);
    this.#tensors.set(name, this.owner.adopt(tensor));
    return tensor;
  }

  get(name: string): Tensor {
    return this.#tensors.get(name)!;
  }
}

interface Moment {
  readonly step: number;
  readonly pass: PassName;
  readonly task: CacheTask;
}

/** A cache made of hooks that keep tensors by their pass. */
function cacheOf(tensors: number, hooks: (kept: Kept, moment: Moment) => CacheHooks): StepCache {
  return {
    tensors: () => tensors,
    prepare: (task) => {
      const owner = new TensorOwner(task.gpu);
      const kept = new Map(task.passes.map((pass) => [pass, new Kept(task.gpu, owner)]));
      return Promise.resolve({
        at: (step, pass) => hooks(kept.get(pass)!, { step, pass, task }),
        [Symbol.dispose]: () => owner[Symbol.dispose](),
      });
    },
  };
}

const never = cacheOf(0, () => ({
  velocity: () => Promise.resolve(undefined),
  remaining: () => Promise.resolve(undefined),
}));

/** As EasyCache: every second step, the velocity of the step before. */
const velocities = cacheOf(0, (kept, { step }) => ({
  velocity: () => Promise.resolve(step % 2 === 1 ? combine(kept.gpu, [[1, kept.get("velocity")]]) : undefined),
  predicted: (_, velocity) => void kept.set("velocity", combine(kept.gpu, [[1, velocity]])),
}));

/** As FirstBlockCache and TeaCache: what the blocks from `first` on added in the step before. */
const residuals = (first: number, skips = ({ step }: Moment) => step % 2 === 1) =>
  cacheOf(3, (kept, moment) => ({
    remaining: async ({ layer, x, keep, modulatedInput }) => {
      const { gpu } = kept;
      if (layer === first) {
        // A cache may wait for numbers.
        const small = await modulatedInput();
        if (small) assert((await gpu.read(small)).every(Number.isFinite));
        if (skips(moment)) return combine(gpu, [[1, x], [1, kept.get("residual")]]);
        kept.set("input", keep());
      }
      if (layer === moment.task.model.shape.layers) {
        kept.set("residual", combine(gpu, [[1, x], [-1, kept.get("input")]]));
      }
      return undefined;
    },
  }));

/** As PAB: the outputs of the step before. */
const attentions = (again = (step: number) => step % 2 === 1) =>
  cacheOf(99, (kept, { step }) => ({
    attention: (layer, module, compute) => {
      const name = `${module} ${layer}`;
      return again(step) ? kept.get(name) : kept.set(name, compute());
    },
  }));

/** Full attention that notes where it is run, as "step pass layer". */
function notedAttention(noted: string[]): AttentionMethod {
  return {
    prepare: async (task) => {
      const full = await fullAttention.prepare(task);
      return {
        at: (step, pass) => (q, k, v, layer) => {
          noted.push(`${step} ${pass} ${layer}`);
          return full.at(step, pass)(q, k, v, layer);
        },
        report: (ran) => full.report(ran),
        [Symbol.dispose]: () => full[Symbol.dispose](),
      };
    },
  };
}

for (const [name, { open, frames, modules }] of Object.entries(MODELS)) {
  const made: Record<string, Float32Array[]> = {};
  for (const weights of ["resident", "stream"] as const) {
    const fn = async () => {
      const { gpu } = (await variants())[0]!;
      const pipeline = await VideoPipeline.of(await open(), { gpu, weights });
      const { layers } = pipeline.headShape, all = 4 * 2 * layers;
      const run = async (options: Partial<GenerateOptions> = {}) => {
        const ran: string[] = [];
        let density = 0, spared: unknown;
        const latents = await pipeline.sampleLatents({
          ...{ ...CLIP, frames, attention: notedAttention(ran), ...options },
          onAttention: (report) => density = report.density,
          onCache: (report) => spared = Object.fromEntries(report),
        });
        const numbers = await gpu.read(latents);
        gpu.release(latents);
        return {
          numbers,
          ran: ran.length,
          steps: (step: number) => ran.filter((at) => +at[0]! === step),
          density,
          spared,
        };
      };
      try {
        const none = await run(), { used } = gpu.memory;
        assertEquals([none.ran, none.density, none.spared], [all, 1, undefined]);

        const idle = await run({ cache: never }), nothing = { steps: 0, blocks: 0, attentions: 0 };
        assertEquals(idle.numbers, none.numbers);
        assertEquals([idle.ran, idle.density], [all, 1]);
        assertEquals(idle.spared, { prompt: nothing, "negative prompt": nothing });

        const half = await run({ cache: velocities }), steps = { ...nothing, steps: 2, blocks: 2 * layers };
        assertEquals(half.spared, { prompt: steps, "negative prompt": steps });
        assertEquals([half.ran, half.steps(1).length, half.density], [all / 2, 0, 0.5]);

        for (const first of [0, 1, layers - 1]) {
          const some = await run({ cache: residuals(first) }), blocks = { ...nothing, blocks: 2 * (layers - first) };
          assertEquals(some.spared, { prompt: blocks, "negative prompt": blocks });
          assertEquals(some.ran, all - 4 * (layers - first));
          assertEquals(some.steps(0).length, 2 * layers);
          assertEquals(some.density, some.ran / all);
          assertNotEquals(some.numbers, none.numbers);
        }
        // One pass skips what the other runs.
        const one = await run({ cache: residuals(1, ({ step, pass }) => step > 0 && pass === "negative prompt") });
        assertEquals(one.spared, { prompt: nothing, "negative prompt": { ...nothing, blocks: 3 * (layers - 1) } });
        assertEquals(one.steps(2).filter((at) => at.startsWith("2 1")), ["2 1 0"]);
        assertEquals(one.steps(2).length, layers + 1);

        const same = await run({ cache: attentions(() => false) });
        assertClose(same.numbers, none.numbers, 1e-5);
        const again = await run({ cache: attentions() }), outputs = { ...nothing, attentions: 2 * modules * layers };
        assertEquals(again.spared, { prompt: outputs, "negative prompt": outputs });
        assertEquals([again.ran, again.density], [all / 2, 0.5]);
        made[weights] = [none, half, one, again].map(({ numbers }) => numbers);
        if (made.resident && made.stream) assertEquals(made.stream, made.resident);

        assertEquals((await run()).numbers, none.numbers);
        assertEquals(gpu.memory.used, used, "nothing is left behind");
        for (const cache of [velocities, residuals(1), attentions()]) {
          for (const step of [0, 2]) {
            const controller = new AbortController();
            const onStep = (_: Tensor, at: number) => {
              if (at === step) controller.abort("stop");
            };
            const thrown = await run({ cache, signal: controller.signal, onStep }).catch((reason) => reason);
            assertEquals([thrown, gpu.memory.used], ["stop", used], `step ${step}`);
          }
        }
      } finally {
        pipeline.close();
      }
    };
    Deno.test({ name: `step caches: ${name}, ${weights}`, sanitizeOps: false, sanitizeResources: false, fn });
  }
}

Deno.test("step caches: their memory is planned", async () => {
  const clip = { width: 832, height: 480, frames: 81 }, open = () => SHAPES["1.3b"].model(drySource);
  const cache = residuals(0), bytes = cacheBytes(cache, open(), clip, 5, false);
  const work = open().denoisingBytes(dryGpu(), clip);
  assertEquals([bytes, cacheBytes(undefined, open(), clip, 5, false)], [2 * 3 * 4 * 32760 * 1536, 0]);
  const { peaks: { load, denoise } } = await countModel(open(), { ...clip, cache, weights: "resident" });
  const taken = denoise.held - load.held;
  assert(taken > work && taken <= work + bytes, `${taken} of ${work} and ${bytes} bytes`);
  // Between what is needed with a cache and without.
  const device = { memoryLimit: load.held + work + bytes / 2 };
  assertEquals((await countModel(open(), { ...clip, device })).place, "resident");
  assertEquals((await countModel(open(), { ...clip, device, cache })).place, "stream");
});

Deno.test("step caches: what is none is refused", async () => {
  const pipeline = await VideoPipeline.of(await openModel(toyModel()), { gpu: dryGpu() });
  const cache = {} as StepCache;
  await assertRejects(() => pipeline.generate({ ...CLIP, cache }), Error, "cache is an object, but a step cache");
  pipeline.close();
});
