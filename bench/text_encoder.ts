/**
 * A text encoder of UMT5-XXL's or LLaMA 3 8B's shape at full size: writes it with random weights, encodes two prompts
 * with it block by block, and prints the time and the memory that it took.
 *
 *     deno run -A bench/text_encoder.ts --stored f32
 *     deno run -A bench/text_encoder.ts --encoder llama --stored bf16
 *
 * @module
 */
import { choice, integer, type OptionValues } from "../tools/program/options.ts";
import { weightDtypeOption } from "../tools/program/model_options.ts";
import { runAsProgram } from "../tools/program/run_command.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { TensorSource } from "../model/checkpoint/tensor_source.ts";
import type { TextEncoder } from "../model/text_encoder.ts";
import type { WeightOptions } from "../model/weights/weight_options.ts";
import { LlamaEncoder } from "../model/llama/encoder.ts";
import { openPart } from "../model/checkpoint/open_part.ts";
import { Umt5Encoder } from "../model/umt5/encoder.ts";
import { writeRandomWeights } from "./full_size/random_weights.ts";
import { llamaTensors, type TensorSpec, umt5Tensors } from "./full_size/tensor_spec.ts";
import { assertVaried } from "./random.ts";
import { benchOptions, handOver, onGpu, storedOption } from "./program.ts";
import { gib, markdownTable } from "./table.ts";

const options = {
  stored: storedOption("f32"),
  encoder: choice({ choices: ["umt5", "llama"], help: "Kind of the encoder.", default: "umt5" }),
  layers: integer({
    help: "Blocks of the encoder (default: 24 of UMT5, and 32 of LLaMA, two of which are not run).",
    min: 1,
  }),
  size: choice({ choices: ["xxl", "small"], help: "Size of the encoder.", default: "xxl" }),
  ...benchOptions,
  "weight-dtype": weightDtypeOption,
};

const PROMPT_TOKENS = 64;

/** UMT5-XXL's and LLaMA 3 8B's widths, and small ones for rehearsals. */
const UMT5 = {
  xxl: { dModel: 4096, dFf: 10240, heads: 64, dKv: 64, vocabSize: 256384 },
  small: { dModel: 64, dFf: 160, heads: 2, dKv: 32, vocabSize: 1000 },
};
const LLAMA = {
  xxl: { dim: 4096, ffnDim: 14336, heads: 32, keyHeads: 8, headDim: 128, vocabSize: 128320 },
  small: { dim: 64, ffnDim: 160, heads: 4, keyHeads: 2, headDim: 16, vocabSize: 1000 },
};

/** An encoder to measure. */
interface Measured {
  readonly layers: number;
  /** The tokens of a prompt, padding included. */
  readonly tokens: number;
  readonly vocabSize: number;
  readonly dim: number;
  readonly tensors: TensorSpec[];
  readonly open: (gpu: Gpu, source: TensorSource, options: WeightOptions) => TextEncoder;
}

function measured(encoder: "umt5" | "llama", size: keyof typeof UMT5, blocks: number | undefined): Measured {
  if (encoder === "umt5") {
    const layers = blocks ?? 24;
    const shape = { ...UMT5[size], layers, relativeBuckets: 32, relativeMaxDistance: 128, eps: 1e-6 };
    return {
      ...{ layers, tokens: 512, vocabSize: shape.vocabSize, dim: shape.dModel, tensors: umt5Tensors(shape) },
      open: (gpu, source, options) => new Umt5Encoder(gpu, shape, source, options),
    };
  }
  const layers = blocks ?? 32, shape = { ...LLAMA[size], layers, theta: 500000, eps: 1e-5 };
  return {
    // HunyuanVideo's template, which is cut off when it was run, has 95.
    ...{ layers, tokens: 256 + 95, vocabSize: shape.vocabSize, dim: shape.dim, tensors: llamaTensors(shape) },
    open: (gpu, source, options) =>
      new LlamaEncoder(gpu, shape, source, { skippedLayers: Math.min(2, layers - 1), cropStart: 0 }, options),
  };
}

if (import.meta.main) await runAsProgram({ name: "deno run -A bench/text_encoder.ts", options, run: main });

async function main(values: OptionValues<typeof options>): Promise<void> {
  const { stored = "f32", encoder: kind = "umt5", size = "xxl" } = values;
  const { layers, tokens, vocabSize, dim, tensors, open } = measured(kind, size, values.layers);
  await onGpu(values, async (gpu, on) => {
    const dir = await Deno.makeTempDir({ prefix: "tilereel-text-encoder-" });
    try {
      const seconds = { write: 0, first: 0, second: 0 };
      const timed = async <T>(part: keyof typeof seconds, work: () => Promise<T>): Promise<T> => {
        const start = performance.now(), result = await work();
        seconds[part] = (performance.now() - start) / 1000;
        return result;
      };
      const dtype = stored === "f32" ? "F32" : "BF16";
      const bytes = await timed("write", () => writeRandomWeights(dir, tensors, dtype, 5e9));
      const source = await openPart(dir, { stem: "diffusion_pytorch_model" });
      using encoder = open(gpu, source, { dtype: values["weight-dtype"] });
      const ids = Int32Array.from({ length: tokens }, (_, i) => i < PROMPT_TOKENS ? 17 * i % vocabSize : 0);
      const prompts = [ids, ids.toReversed()].map((ids) => ({ ids, length: PROMPT_TOKENS }));
      for (const part of ["first", "second"] as const) {
        const encoded = await timed(part, async () => {
          const { text } = await encoder.encode(prompts);
          await gpu.finish();
          return text!;
        });
        assertVaried((await gpu.read(encoded)).subarray(0, PROMPT_TOKENS * dim), "the embeddings");
        gpu.release(encoded);
      }
      const { peak } = gpu.memory;
      const weights = `${(bytes / 1e9).toFixed(2)} GB in ${stored}, ${layers} blocks`;
      handOver(
        values,
        { ...on, encoder: kind, stored, layers, bytes, seconds, peak },
        markdownTable([
          ["what", `${on.adapter}, ${on.precision}`],
          ["weights", `${weights}, written in ${seconds.write.toFixed(1)} s`],
          [`two prompts of ${tokens} tokens`, `${seconds.first.toFixed(2)} s, then ${seconds.second.toFixed(2)} s`],
          ["GPU memory at its peak", gib(peak)],
        ]),
      );
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  });
}
