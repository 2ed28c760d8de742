import type { Gpu } from "../gpu/gpu.ts";
import { attention as attentionOp } from "../gpu/ops/attention.ts";
import { castToInt8 } from "../gpu/ops/cast.ts";
import { CONV3D, conv3d as conv3dOp, convWeight } from "../gpu/ops/conv3d.ts";
import { packHalves } from "../gpu/ops/pack_halves.ts";
import { linear } from "../gpu/ops/linear.ts";
import { sharedInput, sharedWeight } from "../gpu/ops/shared_operands.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { type Grid, product } from "../model/attention/grid.ts";
import { openModel } from "../model/checkpoint/model_folder.ts";
import { embeddedModelDir } from "../model/embedded.ts";
import { exists } from "../model/files/file_error.ts";
import { MASS_TERMS } from "../model/veda/scorer.ts";
import { TilePattern } from "../model/veda/tile_pattern.ts";
import { defaultCapacity, defaultShape } from "../model/veda/tile_shapes.ts";
import type { Size } from "./program.ts";
import { normalTensor } from "./random.ts";
import { SHAPES } from "./shapes.ts";

/** Work that `bench` and `bench:sweep` time: kernels at sizes of Wan 1.3B at 832x480, 81 frames, or the demo model. */
export interface Case {
  /** The name of the computation, with its size. */
  readonly name: string;
  /** Makes the operands, which belong to the enclosing scope. `variant` is that of a sweep. */
  readonly prepare: (gpu: Gpu, variant?: string) => Prepared | Promise<Prepared>;
}

/** A case that is ready to run. */
export interface Prepared {
  /** Records the work once, and may wait for it. The result is the caller's. */
  readonly work: () => Tensor | undefined | Promise<undefined>;
  /** The floating-point operations of the work, where `countFlops` cannot count them. */
  readonly flops?: number;
  /** Frees what belongs to no scope. */
  readonly release?: () => void;
}

/** Prepares a case, uses it and frees it. `once` does the work once and frees the result. */
export async function withCase<T>(
  gpu: Gpu,
  { prepare }: Case,
  use: (prepared: Prepared, once: () => Promise<void>) => Promise<T>,
  variant?: string,
): Promise<T> {
  return await gpu.waitingScope(async () => {
    const prepared = await prepare(gpu, variant);
    try {
      return await use(prepared, async () => {
        const made = await prepared.work();
        if (made) gpu.release(made);
      });
    } finally {
      prepared.release?.();
    }
  });
}

const { config: { dim, ffnDim, heads, headDim }, grid, textTokens } = SHAPES["1.3b"];
const TOKENS = product(grid);

/** The kernels that `bench` times; the first is a matrix product. */
export const KERNEL_CASES: Readonly<Record<Size, readonly Case[]>> = {
  small: [
    gemm(1024, 1024, 1024),
    gemm(512, 1024, 256),
    attention(8, 32, 512, 512),
    attention(4, 128, 512, 512),
    conv3d(96, [2, 32, 32]),
    conv3d(384, [2, 8, 8]),
  ],
  large: [
    gemm(4096, 4096, 4096),
    gemm(TOKENS, ffnDim, dim),
    gemm(TOKENS, dim, ffnDim),
    attention(heads, headDim, TOKENS, TOKENS),
    attention(heads, headDim, TOKENS, textTokens),
    conv3d(96, [4, 480, 832]),
    conv3d(384, [4, 120, 208]),
  ],
};

/** What a sweep times a family of kernels on, which is found by its name. It is nothing for families without a target. */
export function sweptCases(family: string, size: Size): readonly Case[] {
  const small = size === "small", tokens: Grid = small ? SHAPES.small.grid : grid, someHeads = small ? 2 : heads;
  if (/gemm|linear/.test(family)) {
    const weights = () => /int8/.test(family) ? "i8" : "bf16";
    // The small product is just large enough not to be computed by the kernels for small products.
    return small
      ? [gemm(4096, 1024, 64, weights)]
      : [gemm(TOKENS, dim, ffnDim, weights), gemm(TOKENS, ffnDim, dim, weights)];
  }
  if (/attention.*plan/.test(family)) return [veda(someHeads, headDim, tokens, 0.1)];
  if (/attention/.test(family)) return [attention(someHeads, headDim, product(tokens), product(tokens))];
  if (/conv/.test(family)) return [conv3d(96, small ? [2, 16, 32] : [4, 480, 832], true)];
  return [];
}

/**
 * A product with weights [n, k]: in bf16, as Wan's checkpoints have them, or in i8. Both operands are ready in the form
 * that the kernel reads: layers pack their weights once, and what makes an input writes it so.
 *
 * @param weights default: as the device multiplies
 */
function gemm(m: number, n: number, k: number, weights = ({ int8 }: Gpu) => int8 ? "i8" : "bf16"): Case {
  return {
    name: `GEMM ${m}×${n}×${k}`,
    prepare: (gpu) => {
      const x = normalTensor(gpu, [m, k]), w = normalTensor(gpu, [n, k], 1 / Math.sqrt(k), "bf16");
      if (weights(gpu) === "bf16") {
        const input = sharedInput(gpu, x, w), weight = sharedWeight(gpu, w, m);
        return { work: () => linear(gpu, input, weight) };
      }
      const integers = gpu.tensor([n, k], "i8"), scale = gpu.tensor([n]);
      castToInt8(gpu, w, integers, scale);
      const input = sharedInput(gpu, x, integers), weight = sharedWeight(gpu, integers, m);
      return { work: () => linear(gpu, input, weight, { scale }) };
    },
  };
}

function attention(heads: number, headDim: number, queries: number, keys: number): Case {
  return {
    name: `attention ${heads}×${headDim}, ${queries} to ${keys}`,
    prepare: (gpu) => {
      const [q, k, v] = operands(gpu, heads * headDim, queries, keys);
      return { work: () => attentionOp(gpu, q, k, v, { heads }) };
    },
  };
}

/** Attention over tiles that are selected beforehand. */
function veda(heads: number, headDim: number, grid: Grid, keep: number): Case {
  const tokens = product(grid), tile = defaultShape(grid, defaultCapacity(grid));
  return {
    name: `attention ${heads}×${headDim}, ${tokens} tokens, veda keep ${keep}`,
    prepare: (gpu) => {
      const [q, k, v] = operands(gpu, heads * headDim, tokens, tokens);
      const pattern = new TilePattern(gpu, { heads, headDim }, { grid, kept: 0 }, tile, keep);
      const projection = normalTensor(gpu, [heads, 3 * headDim, headDim], 1e-2);
      const scored = { projections: { q: projection, k: projection }, terms: MASS_TERMS };
      const runs = gpu.scope(() => pattern.select(pattern.scores(q, k, scored)));
      return {
        flops: 4 * heads * headDim * pattern.pairs,
        work: () => pattern.attend(q, k, v, runs),
        release: () => pattern[Symbol.dispose](),
      };
    },
  };
}

/**
 * A 3×3×3 convolution of the VAE.
 *
 * @param chosen by the chosen variant, although the op would take another for a small one
 */
function conv3d(channels: number, [frames, height, width]: Grid, chosen = false): Case {
  return {
    name: `conv3d ${channels} channels, ${frames}×${height}×${width}`,
    prepare: (gpu) => {
      // Before the frames that are computed, two more are read.
      const x = normalTensor(gpu, [frames + 2, height, width, channels]), bias = normalTensor(gpu, [channels]);
      const weight = normalTensor(gpu, [channels, 3, 3, 3, channels], 1 / Math.sqrt(27 * channels));
      // As a VAE has them.
      const input = gpu.f16 ? packHalves(gpu, x) : x, converted = convWeight(gpu, weight);
      return { work: () => conv3dOp(gpu, input, converted, bias, chosen ? { variant: gpu.kernels.pick(CONV3D) } : {}) };
    },
  };
}

/** Queries, keys and values [1, tokens, dim]. */
export function operands(gpu: Gpu, dim: number, queries: number, keys = queries): [Tensor, Tensor, Tensor] {
  const make = (tokens: number, which: number) => normalTensor(gpu, [1, tokens, dim], 1, "f32", which);
  return [make(queries, 0), make(keys, 1), make(keys, 2)];
}

/** The clip of the demo model, and the shorter one of which small sizes decode the latents. */
const CLIP = { width: 128, height: 128, frames: 29 }, SHORT = { ...CLIP, frames: 5 };

/** A forward pass and a decode of the demo model; nothing where the model was not carried along. */
export async function demoCases(size: Size): Promise<readonly Case[]> {
  if (!await exists(embeddedModelDir())) {
    console.error("The demo model is not here, so its cases are left out.");
    return [];
  }
  const clip = size === "small" ? SHORT : CLIP;
  return [
    {
      name: `demo transformer, ${CLIP.frames} frames of 128×128`,
      prepare: async (gpu) => {
        const model = await openModel(embeddedModelDir());
        const transformer = await model.loadTransformer(gpu), latents = normalTensor(gpu, model.latentShape(CLIP));
        const conditioning = { text: normalTensor(gpu, [1, 32, model.textDim]) };
        return {
          work: async () => {
            for (const velocity of await transformer.predict([{ latents, timesteps: [500], conditioning }])) {
              gpu.release(velocity);
            }
            return undefined;
          },
          release: () => {
            transformer[Symbol.dispose]();
            model[Symbol.dispose]();
          },
        };
      },
    },
    {
      name: `demo VAE decode, ${clip.frames} frames of 128×128`,
      prepare: async (gpu) => {
        using model = await openModel(embeddedModelDir());
        const vae = await model.loadVae(gpu, "decoder"), latents = normalTensor(gpu, model.latentShape(clip));
        return { work: () => vae.decodeRgb8(latents).then(() => undefined), release: () => vae[Symbol.dispose]() };
      },
    },
  ];
}
