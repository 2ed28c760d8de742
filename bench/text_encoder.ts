/**
 * A text encoder of UMT5-XXL's shape at full size: writes it with random weights, encodes a prompt with it block by
 * block, and says how long each part took and what it needed.
 *
 *     deno run -A bench/text_encoder.ts --stored f32
 *
 * @module
 */
import { gpuOptions, openGpuAsAsked, precisionOption } from "../tools/program/gpu_options.ts";
import { choice, integer, type OptionValues } from "../tools/program/options.ts";
import { showProgress } from "../tools/program/progress.ts";
import { weightDtypeOption } from "../tools/program/model_options.ts";
import { openCheckpoint } from "../model/checkpoint/sharded.ts";
import type { Umt5Config } from "../model/umt5/config.ts";
import { Umt5Encoder } from "../model/umt5/encoder.ts";
import { assertVaried } from "./full_size/varied.ts";
import { writeRandomWeights } from "./full_size/random_weights.ts";
import { umt5Tensors } from "./full_size/tensor_spec.ts";
import { handOver, resultOptions } from "./result.ts";
import { runAsProgram } from "../tools/program/run_as_program.ts";
import { markdownTable } from "./table.ts";

const GROUP = "Text encoder";

const options = {
  stored: choice({ group: GROUP, choices: ["f32", "bf16"], help: "Format of the files.", default: "f32" }),
  layers: integer({ group: GROUP, value: "N", help: "Blocks.", default: "24", min: 1 }),
  size: choice({ group: GROUP, choices: ["xxl", "small"], help: "Of the model.", default: "xxl" }),
  ...gpuOptions(GROUP),
  precision: precisionOption(GROUP),
  "weight-dtype": weightDtypeOption,
  ...resultOptions,
};

const TOKENS = 512, PROMPT_TOKENS = 64;

/** UMT5-XXL's, and a small one for rehearsals. */
const CONFIGS: Readonly<Record<"xxl" | "small", Omit<Umt5Config, "layers">>> = {
  xxl: config({ dModel: 4096, dFf: 10240, heads: 64, dKv: 64, vocabSize: 256384 }),
  small: config({ dModel: 64, dFf: 160, heads: 2, dKv: 32, vocabSize: 1000 }),
};

function config(widths: Pick<Umt5Config, "dModel" | "dFf" | "heads" | "dKv" | "vocabSize">) {
  return { ...widths, relativeBuckets: 32, relativeMaxDistance: 128, eps: 1e-6 };
}

if (import.meta.main) await runAsProgram({ command: "deno run -A bench/text_encoder.ts", options, run: main });

async function main(values: OptionValues<typeof options>): Promise<void> {
  const { stored = "f32", layers = 24, size = "xxl" } = values;
  const shape = { ...CONFIGS[size], layers };
  const gpu = await openGpuAsAsked(values, showProgress().onProgress);
  const dir = await Deno.makeTempDir({ prefix: "tilereel-text-encoder-" });
  try {
    const seconds = { write: 0, first: 0, second: 0 };
    const timed = async <T>(part: keyof typeof seconds, work: () => Promise<T>): Promise<T> => {
      const start = performance.now(), result = await work();
      seconds[part] = (performance.now() - start) / 1000;
      return result;
    };
    const dtype = stored === "f32" ? "F32" : "BF16";
    const bytes = await timed("write", () => writeRandomWeights(dir, umt5Tensors(shape), dtype, 5e9));
    const source = await openCheckpoint(dir, "diffusion_pytorch_model");
    const encoder = new Umt5Encoder(gpu, shape, source, { dtype: values["weight-dtype"] });
    const ids = Int32Array.from({ length: TOKENS }, (_, i) => i < PROMPT_TOKENS ? 17 * i % shape.vocabSize : 0);
    const prompts = [{ ids, length: PROMPT_TOKENS }, { ids: ids.toReversed(), length: PROMPT_TOKENS }];
    for (const part of ["first", "second"] as const) {
      const encoded = await timed(part, async () => {
        const { text } = await encoder.encode(prompts);
        await gpu.finish();
        return text;
      });
      const values = await gpu.read(encoded);
      assertVaried(values.subarray(0, PROMPT_TOKENS * shape.dModel), "the embeddings");
      gpu.release(encoded);
    }
    const { peak } = gpu.memory, { name, source: over } = gpu.settings.description;
    const report = {
      adapter: name,
      source: over,
      precision: gpu.settings.precision,
      stored,
      layers,
      bytes,
      seconds,
      peak,
    };
    encoder[Symbol.dispose]();
    handOver(
      values,
      report,
      markdownTable([
        ["what", `${name}, ${report.precision}`],
        [
          "weights",
          `${(bytes / 1e9).toFixed(2)} GB in ${stored}, ${layers} blocks, written in ${seconds.write.toFixed(1)} s`,
        ],
        ["two prompts of 512 tokens", `${seconds.first.toFixed(2)} s, then ${seconds.second.toFixed(2)} s`],
        ["GPU memory at its peak", `${(peak / 2 ** 30).toFixed(2)} GiB`],
      ]),
    );
  } finally {
    gpu.close();
    await Deno.remove(dir, { recursive: true });
  }
}
