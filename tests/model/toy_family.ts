/**
 * A second family of models: the smallest that shows what a family may have and Wan has not. Text tokens stand behind
 * the video's tokens and are attended to jointly, prompts differ in length, the transformer is told the scale of
 * guidance, and blocks are of two kinds: in dual-stream blocks video and text have weights of their own, in
 * single-stream blocks they share them.
 *
 * @module
 */
import { randomSource } from "../../bench/full_size/made_source.ts";
import type { TensorSpec } from "../../bench/full_size/tensor_spec.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { attention } from "../../gpu/ops/attention.ts";
import { combine } from "../../gpu/ops/combine.ts";
import { layerNorm } from "../../gpu/ops/layer_norm.ts";
import { patchify, unpatchify } from "../../gpu/ops/patches.ts";
import { rgb8 } from "../../gpu/ops/rgb8.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { type Grid, gridOf, product } from "../../model/attention/grid.ts";
import type { TokenLayout } from "../../model/attention/layout.ts";
import { BlockTransformer, loadWeights } from "../../model/blocks/block_transformer.ts";
import { cachedAttention } from "../../model/cache/cached_attention.ts";
import type {
  Conditioning,
  EmbeddedPass,
  Family,
  FamilyModel,
  ForwardPass,
  PromptEncoder,
  VideoVae,
} from "../../model/family.ts";
import { memoryFolder } from "../../model/files/memory.ts";
import { classifierFreeGuidance } from "../../model/guidance.ts";
import { Linear } from "../../model/layers/linear.ts";
import { timestepEmbedding } from "../../model/layers/timestep_embedding.ts";
import { readSchedulerConfig } from "../../model/schedulers/config.ts";
import type { ClipSize } from "../../model/video_size.ts";
import type { Weights } from "../../model/weights/weights.ts";

const DIM = 32, TEXT_DIM = 8, PATCH: Grid = [1, 4, 4], CHANNELS = 3, INNER = CHANNELS * product(PATCH);
/** Text tokens, valid or not. */
export const TEXT_TOKENS = 16;
const PREFIXES = ["double.0.", "double.1.", "single.0.", "single.1."];
export const SHAPE = { layers: 4, heads: 2, headDim: 16, layerPrefixes: PREFIXES };

const SPECS: TensorSpec[] = [
  ...spec("video", DIM, INNER),
  ...spec("text", DIM, TEXT_DIM),
  ...spec("time", DIM, DIM),
  ...spec("out", INNER, DIM),
  ...PREFIXES.flatMap((prefix) => streamsOf(prefix).map((stream) => prefix + stream)).flatMap((prefix) => [
    ...["q", "k", "v", "o"].flatMap((name) => spec(prefix + name, DIM, DIM)),
    ...[...spec(`${prefix}up`, 64, DIM), ...spec(`${prefix}down`, DIM, 64)],
  ]),
  ...spec("guidance", DIM, DIM),
];

function streamsOf(prefix: string): string[] {
  return prefix.startsWith("double") ? ["video.", "text."] : [""];
}

function spec(name: string, outputs: number, inputs: number): TensorSpec[] {
  return [{ name: `${name}.weight`, shape: [outputs, inputs] }, { name: `${name}.bias`, shape: [outputs] }];
}

type Layers<Name extends string> = Readonly<Record<Name, Linear>>;
type Outer = Layers<"video" | "text" | "time" | "guidance" | "out">;
type Stream = Layers<"q" | "k" | "v" | "o" | "up" | "down">;
/** The weights of video and text, or of both together. */
type Block = readonly Stream[];

async function loadLayers<Name extends string>(
  weights: Weights,
  sizes: Readonly<Record<Name, readonly [number, number]>>,
) {
  const layers: Record<string, Linear> = {};
  for (const [name, [outputs, inputs]] of Object.entries<readonly [number, number]>(sizes)) {
    layers[name] = await Linear.load(weights, name, outputs, inputs);
  }
  return layers as Layers<Name>;
}

const square: [number, number] = [DIM, DIM];
const loadOuter = (weights: Weights): Promise<Outer> =>
  loadLayers(weights, {
    video: [DIM, INNER],
    text: [DIM, TEXT_DIM],
    time: square,
    guidance: square,
    out: [INNER, DIM],
  });
async function loadBlock(weights: Weights, layer: number): Promise<Block> {
  const block: Stream[] = [];
  for (const stream of streamsOf(PREFIXES[layer]!)) {
    const sizes = { q: square, k: square, v: square, o: square, up: [64, DIM], down: [DIM, 64] } as const;
    block.push(await loadLayers(weights.scope(stream), sizes));
  }
  return block;
}

interface ToyPass extends EmbeddedPass {
  readonly latents: readonly number[];
}

class ToyTransformer extends BlockTransformer<Outer, Block, ToyPass> {
  readonly shape = SHAPE;

  layout(latents: readonly number[], { text, textLength = text.dim(1) }: Conditioning): TokenLayout {
    return { grid: gridOf(latents, PATCH), kept: text.dim(1), length: textLength };
  }

  embed({ latents, timesteps, conditioning, selfAttention, cache }: ForwardPass): ToyPass {
    const { gpu, outer } = this, { kept, length = kept } = this.layout(latents.shape, conditioning);
    if (!selfAttention && length < kept) throw new Error("padding must be masked: give self-attention that does so");
    const { guidance } = conditioning;
    if (guidance === undefined) throw new Error("every pass must be told the scale of guidance");
    const x = gpu.scope(() => {
      const scale = outer.guidance.apply(gpu, gpu.upload(timestepEmbedding([1000 * guidance], DIM), [1, DIM]));
      const time = combine(gpu, [[1, this.embedTime(timesteps)], [1, scale]]).reshape([DIM]);
      const patches = patchify(gpu, latents, PATCH), tokens = patches.dim(1);
      // The sequence: the grid's tokens, then the text's.
      const all = gpu.tensor([1, tokens + kept, DIM]), rows = all.reshape(all.shape.slice(1));
      outer.video.apply(gpu, patches, { into: rows.rows(0, tokens) });
      outer.text.apply(gpu, conditioning.text, { into: rows.rows(tokens, kept) });
      return layerNorm(gpu, all, 1e-6, { weight: time, bias: time });
    });
    return { x, tensors: [], selfAttention, cache, latents: latents.shape };
  }

  protected override forwardBlock(block: Block, x: Tensor, pass: ToyPass, layer: number): Tensor {
    const { gpu } = this, { selfAttention, latents, cache } = pass;
    const tokens = x.dim(1), video = product(gridOf(latents, PATCH));
    const parts = block.length === 1 ? [[0, tokens] as const] : [[0, video] as const, [video, tokens - video] as const];
    /** A tensor for all tokens, of which each stream writes its own rows: gradients flow through what `into` names. */
    const joined = (write: (w: Stream, rows: (of: Tensor) => Tensor, into: Tensor) => void) => {
      const y = gpu.tensor(x.shape);
      for (const [i, w] of block.entries()) {
        const rows = (of: Tensor) => of.reshape([tokens, DIM]).rows(...parts[i]!);
        write(w, rows, rows(y));
      }
      return y;
    };
    return gpu.scope(() => {
      const add = (output: Tensor) => combine(gpu, [[1, x], [1, output]]);
      const attended = cachedAttention(gpu, { cache, layer, module: "self" }, add, (fused) => {
        const norm = layerNorm(gpu, x, 1e-6);
        const project = (name: "q" | "k" | "v") => joined((w, rows, into) => w[name].apply(gpu, rows(norm), { into }));
        const q = project("q"), k = project("k"), v = project("v");
        const y = selfAttention ? selfAttention(q, k, v, layer) : attention(gpu, q, k, v, { heads: SHAPE.heads });
        return joined((w, rows, into) => w.o.apply(gpu, rows(y), { ...fused && { residual: rows(x) }, into }));
      });
      const second = layerNorm(gpu, attended, 1e-6);
      return joined((w, rows, into) => {
        const hidden = w.up.apply(gpu, rows(second), { activation: "gelu_tanh" });
        w.down.apply(gpu, hidden, { residual: rows(attended), into });
      });
    });
  }

  project(x: Tensor, { latents }: ToyPass): Tensor {
    const { gpu, outer } = this, tokens = product(gridOf(latents, PATCH));
    return gpu.scope(() => {
      const video = x.reshape(x.shape.slice(1)).rows(0, tokens).reshape([1, tokens, DIM]);
      return unpatchify(gpu, outer.out.apply(gpu, video), latents, PATCH);
    });
  }

  protected override embedTime(timesteps: readonly number[]): Tensor {
    const sinusoid = this.gpu.upload(timestepEmbedding(timesteps, DIM), [timesteps.length, DIM]);
    return this.outer.time.apply(this.gpu, sinusoid);
  }
}

/** Latents are pixels. */
function identityVae(gpu: Gpu): VideoVae {
  const same = (latents: Tensor) => combine(gpu, [[1, latents]]);
  return {
    denormalize: same,
    normalize: same,
    fitsWhole: () => true,
    decodeRgb8: async (latents, { onProgress } = {}) => {
      onProgress?.({ stage: "decode", done: 0, total: latents.dim(2) });
      const packed = rgb8(gpu, latents.reshape(latents.shape.slice(1)));
      const bytes = new Uint8Array(await gpu.readBytes(packed)).slice(0, latents.size);
      gpu.release(packed);
      return bytes;
    },
    encode: (clip) => Promise.resolve({ mean: same(clip as Tensor), logvar: same(clip as Tensor) }),
    [Symbol.dispose]() {},
  };
}

/** A token is a character. */
function characterEncoder(gpu: Gpu): PromptEncoder {
  return {
    encode: (prompts, tokens) =>
      Promise.resolve(prompts.map((prompt) => {
        const numbers = Float32Array.from(
          { length: tokens * TEXT_DIM },
          // What lies past the prompt's end is not zero, and must not count.
          (_, i) =>
            Math.sin((prompt.charCodeAt(Math.floor(i / TEXT_DIM)) || 1000 * prompt.length) * (1 + i % TEXT_DIM)),
        );
        return { text: gpu.upload(numbers, [1, tokens, TEXT_DIM]), textLength: Math.max(1, prompt.length) };
      })),
    [Symbol.dispose]() {},
  };
}

/** The toy family. Its weights are random and always the same. */
export const TOY: Family = {
  name: "the toy",
  transformerClass: "ToyTransformer",
  pipelineClass: "ToyPipeline",
  parts: { transformer: { classes: ["ToyTransformer"] }, scheduler: {} },
  defaults: { width: 48, height: 32, frames: 4, fps: 8, steps: 3, guidance: 2, textTokens: TEXT_TOKENS },
  // The number of a clip's tokens is even, so that the text's rows begin where a buffer can be bound.
  multiples: { side: 8, frames: 1 },
  async open(folder): Promise<FamilyModel> {
    const latentShape = ({ width, height, frames }: ClipSize) => [1, CHANNELS, frames, height, width];
    const layout = (clip: ClipSize) => ({ grid: gridOf(latentShape(clip), PATCH), kept: TEXT_TOKENS });
    const weights = randomSource(SPECS);
    return {
      family: TOY,
      defaults: folder.generation,
      scheduler: await readSchedulerConfig((await folder.component("scheduler")).file("scheduler_config.json"), "wan"),
      shape: SHAPE,
      // Latents are pixels in -1…1.
      latentRgb: { factors: [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]], bias: [0.5, 0.5, 0.5] },
      textDim: TEXT_DIM,
      weights,
      latentShape,
      layout,
      // Latents are larger than tokens.
      denoisingBytes: (_, clip) => 8 * 4 * (DIM + INNER) * (product(layout(clip).grid) + TEXT_TOKENS),
      scheduleNotes: () => [],
      passes: (guidance) => classifierFreeGuidance(guidance).map((pass) => ({ ...pass, embedded: { guidance } })),
      loadTransformer: async (gpu, options) => {
        const stored = { prefixes: PREFIXES, load: loadBlock };
        return new ToyTransformer(gpu, await loadWeights(gpu, weights, stored, loadOuter, options));
      },
      loadVae: (gpu) => Promise.resolve(identityVae(gpu)),
      promptEncoder: characterEncoder,
      [Symbol.dispose]() {},
    };
  },
};

/** A model of the toy family, in memory. */
export function toyModel() {
  const files = {
    "model_index.json": { _class_name: "ToyPipeline", transformer: ["toys", "ToyTransformer"] },
    "transformer/config.json": {},
    "scheduler/scheduler_config.json": { _class_name: "FlowMatchEulerDiscreteScheduler", shift: 3 },
  };
  const bytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
  return memoryFolder(Object.fromEntries(Object.entries(files).map(([name, value]) => [name, bytes(value)])));
}
