import { dryGpu, type DryGpuOptions, NVIDIA_MATRIX_UNITS } from "../../gpu/device/dry.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { dawn } from "../../gpu/native/dawn.ts";
import { deno } from "../../gpu/native/deno.ts";
import { MATRIX_FEATURE } from "../../gpu/matrix_units.ts";
import { FAMILIES } from "../../gpu/tuning/families.ts";
import type { AttentionMethod } from "../../model/attention/method.ts";
import { VideoPipeline } from "../../model/pipeline.ts";
import { LlamaEncoder } from "../../model/llama/encoder.ts";
import { Umt5Encoder } from "../../model/umt5/encoder.ts";
import { vedaAttention } from "../../model/veda/methods.ts";
import { singleBranch } from "../../model/vorta/methods.ts";
import { defaultSettings } from "../../model/vorta/settings.ts";
import { trainingPass } from "../../model/vorta/training_pass.ts";
import { drySource } from "../full_size/made_source.ts";
import { llamaTensors, umt5Tensors } from "../full_size/tensor_spec.ts";
import { SHAPES } from "../shapes.ts";

/** Whole WGSL modules by kernel name, as compiled on a dry device: no GPU is needed, and nothing is computed. */
export type Modules = Map<string, string>;

/** A variant of a family on one kind of device. */
export interface RecordedVariant {
  readonly family: string;
  readonly name: string;
  /** The device that has the variant: a key of {@link DEVICES}. */
  readonly device: string;
  /** The kernels of the family's sample in the order in which they run. The last one is the variant itself. */
  readonly kernels: readonly string[];
}

const SUBGROUP = NVIDIA_MATRIX_UNITS.subgroup;

/** Kinds of devices that have kernels of their own. */
const DEVICES: Readonly<Record<string, DryGpuOptions>> = {
  plain: { kernels: "plain" },
  f32: {},
  "f32 with subgroups": { subgroup: SUBGROUP },
  f16: { precision: "f16" },
  "f16 with subgroups": { precision: "f16", subgroup: SUBGROUP },
  "matrix units": { precision: "f16", subgroup: SUBGROUP, matrixUnits: NVIDIA_MATRIX_UNITS },
};

/** The sources, by name. */
export const SOURCES = { dawn, deno } as const;
/** The name of a source. */
export type SourceName = keyof typeof SOURCES;

/** The kinds of devices that a source can have. */
function devicesOf(name: SourceName): [string, DryGpuOptions][] {
  const { dialect, features } = SOURCES[name];
  const matrix = features.some(({ name }) => name === MATRIX_FEATURE);
  return Object.entries(DEVICES)
    .filter(([, { matrixUnits }]) => matrix || !matrixUnits)
    .map(([name, options]) => [name, { ...options, dialect }]);
}

/** Runs the sample of every family in every variant. */
export async function recordFamilies(source: SourceName, modules: Modules): Promise<RecordedVariant[]> {
  const recorded: RecordedVariant[] = [];
  for (const [device, options] of devicesOf(source)) {
    for (const family of FAMILIES) {
      // Of plain kernels there are no variants.
      const variants: ReadonlyMap<string, unknown> = options.kernels === "plain"
        ? new Map([["plain", undefined]])
        : family.variants(dryGpu(options));
      for (const [name, variant] of variants) {
        const own: Modules = new Map();
        await record(options, own, (gpu) => void family.sample(gpu, variant));
        for (const [kernel, wgsl] of own) note(modules, kernel, wgsl);
        recorded.push({ family: family.name, name, device, kernels: [...own.keys()] });
      }
    }
  }
  return recorded;
}

/** A clip that is small, so that little is copied, but large enough for tiles and core-sets. */
const CLIP = { width: 128, height: 128, frames: 9 }, LATENTS = [1, 16, 3, 16, 16], TEXT = { tokens: 8, dim: 4096 };

/** `undefined` is full attention. */
const METHODS: readonly (AttentionMethod | undefined)[] = [
  undefined,
  singleBranch("sliding", defaultSettings),
  singleBranch("coreset", defaultSettings),
  vedaAttention({ keep: 0.5, denseSteps: 0 }),
];

/** Blocks of UMT5-XXL and of LLaMA 3 8B. */
const UMT5 = {
  ...{ dModel: TEXT.dim, dFf: 10240, heads: 64, dKv: 64, layers: 1, vocabSize: 1, eps: 1e-6 },
  ...{ relativeBuckets: 32, relativeMaxDistance: 128 },
};
const LLAMA = {
  ...{ dim: TEXT.dim, ffnDim: 14336, heads: 32, keyHeads: 8, headDim: 128, layers: 1, vocabSize: 1 },
  ...{ theta: 500000, eps: 1e-5 },
};

/**
 * Encodes a prompt with one block of UMT5-XXL and of LLaMA 3 8B, renders a clip with one block of Wan 1.3B by every kind
 * of attention, and makes one training pass for VORTA's router. Kernels that only the training of Veda's tiles runs are
 * not recorded.
 */
export async function recordModel(source: SourceName, modules: Modules): Promise<void> {
  const wan = SHAPES["1.3b"].model(drySource, { blocks: [1] });
  const size = LATENTS.reduce((a, b) => a * b), text = new Float32Array(TEXT.tokens * TEXT.dim);
  for (const [, options] of devicesOf(source)) {
    await record(options, modules, async (gpu) => {
      const pipeline = await VideoPipeline.of(wan, { gpu, clips: [CLIP] });
      for (const attention of METHODS) {
        await pipeline.generate({
          ...CLIP,
          prompt: "",
          latents: { data: new Float32Array(size), shape: LATENTS },
          steps: 2,
          guidance: 5,
          embeddings: { positive: text, negative: text },
          ...attention && { attention },
        });
      }
    });
    await record(options, modules, async (gpu) => {
      const encoder = new Umt5Encoder(gpu, UMT5, drySource(umt5Tensors(UMT5), "BF16"));
      await encoder.encode([{ ids: new Int32Array(TEXT.tokens), length: 1 }]);
    });
    await record(options, modules, async (gpu) => {
      const source = drySource(llamaTensors(LLAMA), "BF16"), text = { skippedLayers: 0, cropStart: 95 };
      await new LlamaEncoder(gpu, LLAMA, source, text).encode([{ ids: new Int32Array(351), length: 96 }]);
    });
    await record(options, modules, async (gpu) => {
      const transformer = await wan.loadTransformer(gpu);
      await trainingPass(gpu, transformer, {
        noisy: gpu.upload(new Float32Array(size), LATENTS),
        target: gpu.upload(new Float32Array(size), LATENTS),
        conditioning: { text: gpu.upload(text, [1, TEXT.tokens, TEXT.dim]) },
        timestep: 500,
        scores: new Float32Array(wan.shape.heads * 3).fill(1 / 3),
        settings: defaultSettings([3, 8, 8]),
        weights: { diffusion: 1, distillation: 1, hidden: 1 },
      });
    });
  }
}

async function record(options: DryGpuOptions, modules: Modules, work: (gpu: Gpu) => Promise<void> | void) {
  const gpu = dryGpu({ ...options, onModule: (name, wgsl) => note(modules, name, wgsl) });
  // Only the first and the last step count values that f16 cannot hold: kernels are recorded as the other steps run them.
  Object.defineProperty(gpu, "countsClamps", { get: () => false, set() {} });
  await gpu.waitingScope(async () => await work(gpu));
}

function note(modules: Modules, name: string, wgsl: string): void {
  const known = modules.get(name);
  if (known !== undefined && known !== wgsl) throw new Error(`two kernels have the name ${name}`);
  modules.set(name, wgsl);
}
