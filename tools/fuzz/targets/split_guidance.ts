import { type Hello, whyOther } from "../../../cli/split_guidance/hello.ts";
import { framesOf, type Message, MessageReader } from "../../../cli/split_guidance/message.ts";
import {
  type BegunClip,
  checkRequest,
  checkSameMethods,
  clipMessage,
  clipOf,
  methodValuesOf,
  stepMessage,
} from "../../../cli/split_guidance/requests.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { dryGpu } from "../../../gpu/device/dry.ts";
import { openModel } from "../../../model/checkpoint/model_folder.ts";
import { embeddedModelDir } from "../../../model/embedded.ts";
import { GuidanceAssistant } from "../../../model/split_guidance/assistant.ts";
import type { SplitClip } from "../../../model/split_guidance/partner.ts";
import { readyMethods } from "../../../tools/program/clip/method_options.ts";
import type { Dice } from "../dice.ts";
import { mutateBytes } from "../mutate_bytes.ts";
import { mutateJson } from "../mutate_json.ts";
import type { FuzzTarget } from "../target.ts";

const HELLO: Hello = {
  ...{ tilereel: "1", family: "Wan", precision: "f32", adapter: "a (deno)" },
  ...{ model: { modelDigest: "d", lora: ["a"] }, kernels: { all: "plain", gemm: "x" } },
};

type Frame = string | Uint8Array<ArrayBuffer>;

/** An assistant of the demo model, on a device that computes nothing. */
async function openAssistant(): Promise<GuidanceAssistant> {
  return await GuidanceAssistant.of(await openModel(embeddedModelDir()), { gpu: dryGpu({ memoryLimit: 2 ** 29 }) });
}

async function validClip({ model }: GuidanceAssistant): Promise<{ clip: SplitClip; methods: Record<string, unknown> }> {
  const size = { width: 32, height: 32, frames: 5 }, { textDim } = model;
  const methods = await readyMethods({ attention: "vorta", cache: "first-block" }, embeddedModelDir());
  return {
    clip: {
      ...{ size, shape: model.latentShape(size), lengths: [0, 0], timesteps: [1000, 500], sigmas: [1, 0.5, 0] },
      conditioning: { text: { data: new Float32Array(8 * textDim), shape: [1, 8, textDim] }, textLength: 3 },
    },
    methods: methods.record(model.layout(size).grid),
  };
}

function read(frames: readonly Frame[], assistant: GuidanceAssistant, begun?: BegunClip): Message {
  const reader = new MessageReader((head, shapes) => checkRequest(assistant.model, begun, head, shapes));
  for (const frame of frames) {
    const message = reader.push(typeof frame === "string" ? frame : frame.slice().buffer);
    if (message) return message;
  }
  throw new TilereelError("the message is not complete");
}

/** Does what a main process asks for, as an assistant does it. */
async function help(frames: readonly Frame[], assistant: GuidanceAssistant): Promise<void> {
  const { model } = assistant, { head, tensors } = read(frames, assistant);
  if (head.kind !== "clip") return;
  const { clip, methods: asked } = clipOf(model, head, tensors);
  const methods = await readyMethods(methodValuesOf(asked, {}), embeddedModelDir());
  methods.check(model);
  checkSameMethods(asked, methods.record(model.layout(clip.size).grid));
  using pass = await assistant.begin(clip, methods.options);
  await pass.velocity(0, new Float32Array(clip.shape.reduce((a, b) => a * b)));
}

function mutated(frames: readonly Frame[], dice: Dice): Frame[] {
  const [head, ...others] = frames, where = dice.below(4);
  const changed = others.map((frame) => where === 0 ? mutateBytes(frame as Uint8Array, dice) : frame);
  const text = where === 0 ? head as string : mutateJson(JSON.parse(head as string), dice);
  return dice.once(20) ? [...changed, text] : [text, ...changed];
}

/** The message of a clip with another value. */
async function clipWith(change: (head: Record<string, unknown>) => void): Promise<void> {
  using assistant = await openAssistant();
  const [head, ...others] = framesOf(clipMessage(await validClip(assistant))), value = JSON.parse(head as string);
  change(value);
  await help([JSON.stringify(value), ...others], assistant);
}

export const splitGuidance: FuzzTarget = {
  reads: "what the two processes of split guidance say to each other",
  open: async () => {
    const assistant = await openAssistant(), valid = await validClip(assistant), { shape } = valid.clip;
    const clip = framesOf(clipMessage(valid)), begun = { shape, steps: 2, next: 1 };
    const step = framesOf(stepMessage(1, shape, new Float32Array(shape.reduce((a, b) => a * b))));
    return async (dice) => {
      switch (dice.below(8)) {
        case 0: {
          const message = new MessageReader(() => {}).push(mutateJson({ kind: "hello", ...HELLO }, dice));
          const why = whyOther(message?.head ?? {}, HELLO);
          if (why !== undefined) throw new TilereelError(`the assistant ${why}`);
          return;
        }
        case 1:
          return void read(mutated(step, dice), assistant, begun);
        default:
          return await help(mutated(clip, dice), assistant);
      }
    };
  },
  extremes: {
    "100,000 timesteps": () => clipWith((head) => head.timesteps = new Array(1e5).fill(1)),
    "a clip of 2^30 pixels": () => clipWith((head) => head.size = { width: 2 ** 15, height: 2 ** 15, frames: 5 }),
    "a clip of 10^9 frames": () => clipWith((head) => head.size = { width: 32, height: 32, frames: 1e9 + 1 }),
    "a tensor of 10^15 numbers": () => clipWith((head) => head.tensors = [{ name: "text", shape: [1, 1e15] }]),
    "a tensor called __proto__": () => clipWith((head) => head.tensors = [{ name: "__proto__", shape: [1] }]),
    "a file as a router": () => clipWith((head) => head.methods = { attention: "vorta", router: "/etc/passwd" }),
    "a method of 900 kB": () => clipWith((head) => head.methods = { attention: "x".repeat(9e5) }),
    "a head of 2 MB": () => clipWith((head) => head.x = "x".repeat(2e6)),
    "a head nested 1000 deep": () =>
      clipWith((head) => head.methods = JSON.parse('{"a":'.repeat(1000) + "1" + "}".repeat(1000))),
    "text of no tokens": () => clipWith((head) => head.numbers = { textLength: -1 }),
  },
};
