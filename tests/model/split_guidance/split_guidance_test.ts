/** Guidance in two places: a second device stands for the assistant's, and all bytes must be those of one. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { TilereelError } from "../../../gpu/common/errors.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { easyCache } from "../../../model/cache/easy.ts";
import { firstBlockCache } from "../../../model/cache/first_block.ts";
import { pyramidAttentionBroadcast } from "../../../model/cache/pab.ts";
import { teaCache } from "../../../model/cache/tea.ts";
import type { CacheReport } from "../../../model/cache/step_cache.ts";
import { openModel } from "../../../model/checkpoint/model_folder.ts";
import { openSafetensors, readFloat32 } from "../../../model/checkpoint/safetensors.ts";
import { embeddedModelDir } from "../../../model/embedded.ts";
import { registerFamily } from "../../../model/families.ts";
import type { FamilyModel } from "../../../model/family.ts";
import { type GenerateOptions, VideoPipeline } from "../../../model/pipeline.ts";
import type { SamplingState } from "../../../model/sampling_state.ts";
import { GuidanceAssistant } from "../../../model/split_guidance/assistant.ts";
import {
  type DistantPass,
  type GuidancePartner,
  PartnerLostError,
  type SplitClip,
} from "../../../model/split_guidance/partner.ts";
import { vedaAttention } from "../../../model/veda/methods.ts";
import { loadVeda } from "../../../model/veda/veda_file.ts";
import { readPicture } from "../../../model/video/read/picture.ts";
import { routedAttention } from "../../../model/vorta/methods.ts";
import { loadRouter } from "../../../model/vorta/router_file.ts";
import { defaultSettings } from "../../../model/vorta/settings.ts";
import { openTestGpu, testOnGpu } from "../../gpu.ts";
import { TOY, toyModel } from "../toy_family.ts";

registerFamily(TOY);
const FIXTURES = new URL("../../fixtures/", import.meta.url).pathname;

/** A pipeline and an assistant of the same model, each on a device of its own. */
interface Both {
  readonly pipeline: VideoPipeline;
  readonly assistant: GuidanceAssistant;
  readonly gpu: Gpu;
  readonly far: Gpu;
}

function testBoth(name: string, open: () => Promise<FamilyModel>, run: (both: Both) => Promise<void>): void {
  testOnGpu(name, async (gpu) => {
    const far = await openTestGpu();
    far.poison = true;
    try {
      const pipeline = await VideoPipeline.of(await open(), { gpu });
      try {
        using assistant = await GuidanceAssistant.of(await open(), { gpu: far });
        await run({ pipeline, assistant, gpu, far });
      } finally {
        pipeline.close();
      }
    } finally {
      far.close();
    }
  });
}

/** A partner that is not far away, and the steps that it was asked for. `change` stands in its way. */
function partnerOf(
  assistant: GuidanceAssistant,
  methods: Pick<GenerateOptions, "attention" | "cache">,
  change: (pass: DistantPass, clip: SplitClip) => Partial<DistantPass> = () => ({}),
): GuidancePartner & { readonly asked: number[] } {
  const asked: number[] = [];
  return {
    ...{ name: "the assistant", asked },
    begin: async (clip) => {
      const pass = await assistant.begin(clip, methods), changed = change(pass, clip);
      return {
        velocity: (step, latents) => {
          asked.push(step);
          return (changed.velocity ?? pass.velocity.bind(pass))(step, latents);
        },
        ...changed.sent && { sent: changed.sent },
        [Symbol.dispose]: () => pass[Symbol.dispose](),
      };
    },
  };
}

/** What a clip is, with all that is told of it. */
async function sampled({ pipeline, gpu }: Pick<Both, "pipeline" | "gpu">, options: GenerateOptions) {
  let density = 0, cache: CacheReport | undefined;
  const latents = await pipeline.sampleLatents({
    ...options,
    onAttention: (report) => density = report.density,
    onCache: (report) => cache = report,
  });
  const numbers = await gpu.read(latents);
  gpu.release(latents);
  return { numbers, density, cache };
}

/** Samples a clip alone and split, compares, and checks that nothing is left on either device. */
async function assertSame(both: Both, clip: GenerateOptions, what: string): Promise<void> {
  const { assistant, gpu, far } = both, { attention, cache } = clip;
  const alone = await sampled(both, clip);
  const partner = partnerOf(assistant, { ...attention && { attention }, ...cache && { cache } });
  // What lasts, such as tables of positions, is made with the first clip.
  await sampled(both, { ...clip, partner });
  const used = [gpu.memory.used, far.memory.used];
  partner.asked.length = 0;
  const split = await sampled(both, { ...clip, partner });
  assertEquals(split, alone, what);
  assert(split.numbers.every(Number.isFinite) && new Set(split.numbers).size > 100, what);
  assertEquals(partner.asked, Array.from({ length: clip.steps! }, (_, step) => step), what);
  assertEquals([gpu.memory.used, far.memory.used], used, what);
}

const demo = () => openModel(embeddedModelDir());
const CLIP = {
  prompt: "a red circle",
  negativePrompt: "a blue ring",
  width: 48,
  height: 32,
  frames: 5,
  steps: 3,
  stateInterval: 0,
};

testBoth("split guidance: the demo model, with every kind of attention", demo, async (both) => {
  const { router, settings } = await loadRouter(`${embeddedModelDir()}/router.safetensors`);
  const veda = await loadVeda(`${embeddedModelDir()}/tiles.safetensors`);
  const kinds = {
    full: {},
    vorta: { attention: routedAttention({ router, settings: (grid) => settings ?? defaultSettings(grid) }) },
    veda: { attention: vedaAttention({ keep: 0.5, ...veda.scorer && { scorer: veda.scorer }, tileTokens: 8 }) },
  };
  for (const [kind, methods] of Object.entries(kinds)) await assertSame(both, { ...CLIP, ...methods }, kind);
});

testBoth("split guidance: the demo model, with every step cache", demo, async (both) => {
  const caches = {
    "first-block": firstBlockCache({ threshold: 0.5 }),
    tea: teaCache({ threshold: 1, coefficients: [1, 0] }),
    easy: easyCache({ threshold: 10, first: 3 }),
    pab: pyramidAttentionBroadcast({ between: [0, 1000] }),
  };
  for (const [kind, cache] of Object.entries(caches)) {
    await assertSame(both, { ...CLIP, steps: 6, width: 32, cache }, kind);
  }
});

testBoth(
  "split guidance: a family with text beside the video, whose prompts differ in length",
  () => openModel(toyModel()),
  async (both) => {
    const clip = { ...CLIP, frames: 4, width: 32, guidance: 3, negativePrompt: "blur" };
    await assertSame(both, clip, "full");
    await assertSame(both, { ...clip, attention: vedaAttention({ keep: 0.5, tileTokens: 8 }) }, "veda");
  },
);

for (const name of ["tiny_wan_a14b_pipeline", "tiny_wan_i2v_pipeline", "tiny_wan_ti2v_pipeline"]) {
  testBoth(`split guidance: ${name}, from a picture`, () => openModel(`${FIXTURES}${name}`), async (both) => {
    using source = await openSafetensors(`${FIXTURES}${name}/reference.safetensors`);
    const [positive, negative] = await Promise.all(
      ["prompt_embeds", "negative_prompt_embeds"].map((name) => readFloat32(source, name)),
    );
    const image = await readPicture(`${FIXTURES}${name}/first.png`);
    const embeddings = { positive: positive!, negative: negative! };
    await assertSame(both, { prompt: "", embeddings, image, width: 32, height: 32, frames: 5, steps: 4 }, name);
  });
}

testBoth(
  "split guidance: a clip goes on from any of its steps, split or not, with the same bytes",
  demo,
  async (both) => {
    const { assistant } = both, alone = await sampled(both, CLIP), states: SamplingState[] = [];
    const onState = (state: SamplingState) => void states.push(state);
    assertEquals((await sampled(both, { ...CLIP, partner: partnerOf(assistant, {}), onState })).numbers, alone.numbers);
    assertEquals(states.map(({ step }) => step), [1, 2, 3]);
    const partner = partnerOf(assistant, {});
    assertEquals(await sampled(both, { ...CLIP, partner, resumeFrom: states[0]! }), alone);
    assertEquals(partner.asked, [1, 2]);
    assertEquals(await sampled(both, { ...CLIP, resumeFrom: states[1]! }), alone);
    // A partner's step cache cannot be set to where it was.
    const cache = easyCache({ threshold: 10, first: 2 }), cached = partnerOf(assistant, { cache });
    const whole = await sampled(both, { ...CLIP, cache }), kept: SamplingState[] = [];
    await sampled(both, { ...CLIP, cache, onState: (state) => void kept.push(state) });
    assertEquals(await sampled(both, { ...CLIP, cache, partner: cached, resumeFrom: kept[0]! }), whole);
    assertEquals(cached.asked, []);
  },
);

testBoth("split guidance: nothing is recorded here until a step's latents have left", demo, async (both) => {
  const { assistant, gpu } = both, { run } = gpu, events: string[] = [];
  const partner = partnerOf(assistant, {}, (pass) => ({
    velocity: (step, latents) => {
      events.push(`ask ${step}`);
      return pass.velocity(step, latents);
    },
    sent: async () => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      events.push("sent");
    },
  }));
  gpu.run = (...dispatch) => {
    if (events.at(-1) !== "record") events.push("record");
    run.apply(gpu, dispatch);
  };
  try {
    await sampled(both, { ...CLIP, partner });
  } finally {
    gpu.run = run;
  }
  const asked = events.slice(events.indexOf("ask 0"));
  assertEquals(asked, [0, 1, 2].flatMap((step) => [`ask ${step}`, "sent", "record"]));
});

testBoth("split guidance: a partner that fails is done without", demo, async (both) => {
  const { assistant } = both, alone = await sampled(both, CLIP);
  const lost = new PartnerLostError("the assistant has gone");
  /** The clip with a partner, and what is noted. */
  const withPartner = async (partner: GuidancePartner, options: Partial<GenerateOptions> = {}) => {
    const notes: string[] = [];
    const onNote = (note: string) => note.includes("trained on") || notes.push(note);
    return { ...await sampled(both, { ...CLIP, ...options, partner, onNote }), notes };
  };
  const dies = partnerOf(assistant, {}, (pass) => ({
    velocity: (step, latents) => step === 1 ? Promise.reject(lost) : pass.velocity(step, latents),
  }));
  assertEquals(await withPartner(dies), {
    ...{ ...alone, notes: ["the assistant has gone, so the clip goes on without it"] },
  });
  assertEquals(dies.asked, [0, 1]);
  const stalls = { ...partnerOf(assistant, {}, () => ({ velocity: () => new Promise(() => {}) })), patience: 10 };
  const stalled = await withPartner(stalls);
  assertEquals(stalled.numbers, alone.numbers);
  assert(/^the assistant did not answer within \d+ s, so the clip goes on without it$/.test(stalled.notes.join()));
  assertEquals(stalls.asked, [0]);
  // Nor is a line waited for on which latents never leave.
  const cut = { ...partnerOf(assistant, {}, () => ({ sent: () => new Promise(() => {}) })), patience: 10 };
  assertEquals(await withPartner(cut), stalled);
  assertEquals(cut.asked, [0]);
  const answersShort = partnerOf(assistant, {}, () => ({
    velocity: () => Promise.resolve({ velocity: new Float32Array(3), layers: [] }),
  }));
  const short = await withPartner(answersShort);
  assertEquals(short.numbers, alone.numbers);
  assert(/^the assistant gave 3 numbers in place of \d+, so/.test(short.notes.join()), short.notes.join());
  const unreachable = { name: "the assistant", begin: () => Promise.reject(lost) };
  const without = await withPartner(unreachable);
  assertEquals(without, { ...alone, notes: ["the assistant has gone, so the clip is made without it"] });
  // With a step cache, some of the state is lost.
  const cache = easyCache({ threshold: 10, first: 1 });
  const cached = await withPartner(
    partnerOf(assistant, { cache }, () => ({ velocity: () => Promise.reject(lost) })),
    { cache },
  );
  assert(cached.numbers.every(Number.isFinite));
  assert(cached.notes.join().endsWith("what the step cache had kept of its pass is lost"), cached.notes.join());
});

testBoth("split guidance: what is refused ends the clip, and one pass is not split", demo, async (both) => {
  const { pipeline, assistant, gpu } = both;
  await sampled(both, CLIP);
  const { used } = gpu.memory;
  const refuses = { name: "the assistant", begin: () => Promise.reject(new TilereelError("it has another router")) };
  await assertRejects(() => pipeline.generate({ ...CLIP, partner: refuses }), TilereelError, "another router");
  assertEquals(gpu.memory.used, used);
  const notes: string[] = [], partner = partnerOf(assistant, {});
  const onNote = (note: string) => note.includes("trained on") || notes.push(note);
  await sampled(both, { ...CLIP, negativePrompt: "", guidance: 1, partner, onNote });
  assertEquals(notes, ["the model runs one pass in each step of this clip, so there is no guidance to split"]);
  assertEquals(partner.asked, []);
  // A clip that ends early leaves nothing behind, wherever it is.
  const controller = new AbortController(), { signal } = controller;
  const waits = partnerOf(assistant, {}, (pass) => ({
    velocity: (step, latents) => {
      if (step === 0) return pass.velocity(step, latents);
      setTimeout(() => controller.abort(new Error("stop")), 10);
      return new Promise(() => {});
    },
  }));
  await assertRejects(() => pipeline.generate({ ...CLIP, partner: waits, signal }), Error, "stop");
  assertEquals(gpu.memory.used, used);
  const late = new AbortController();
  const sends = partnerOf(assistant, {}, () => ({
    sent: () => {
      setTimeout(() => late.abort(new Error("stop")), 10);
      return new Promise(() => {});
    },
  }));
  await assertRejects(() => pipeline.generate({ ...CLIP, partner: sends, signal: late.signal }), Error, "stop");
  assertEquals(gpu.memory.used, used);
});

testBoth("split guidance: an assistant refuses what is no clip of its model", demo, async ({ assistant, far }) => {
  const text = { data: new Float32Array(2 * assistant.model.textDim), shape: [1, 2, assistant.model.textDim] };
  const { width, height, frames } = CLIP, size = { width, height, frames };
  const clip: SplitClip = {
    ...{ size, shape: assistant.model.latentShape(size), lengths: [0, 0] },
    ...{ timesteps: [1000, 500], sigmas: [1, 0.5, 0], conditioning: { text } },
  };
  (await assistant.begin(clip))[Symbol.dispose]();
  const { used } = far.memory;
  (await assistant.begin(clip))[Symbol.dispose]();
  assertEquals(far.memory.used, used);
  const others: [Partial<SplitClip>, string][] = [
    [{ size: { ...size, width: 47 } }, "size 47x32 does not fit"],
    [{ shape: [1, 16, 2, 4, 4] }, "the latents"],
    [{ size: { width: 2 ** 20, height: 2 ** 20, frames: 5 } }, "the latents"],
    [{ lengths: [0] }, "the lengths"],
    [{ lengths: [0, 1] }, "the lengths"],
    [{ timesteps: [] }, "the timesteps"],
    [{ timesteps: [1000, NaN] }, "the timesteps"],
    [{ sigmas: [1, 0] }, "the noise levels"],
    [{ conditioning: { text: { ...text, shape: [1, 1, 3] } } }, "the text embeddings"],
    [{ conditioning: { text, pooled: text } }, "the embeddings"],
    [{ conditioning: { text, image: text } }, "the image tokens"],
    [{ conditioning: { text, channels: text } }, "the pictures"],
    [{ conditioning: { text, textLength: 3 } }, "the numbers"],
  ];
  for (const [change, message] of others) {
    await assertRejects(() => assistant.begin({ ...clip, ...change }), TilereelError, message);
  }
  assertEquals(far.memory.used, used);
});
