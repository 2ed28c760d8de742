/**
 * A text encoder of UMT5-XXL's shape at full size: writes it with random weights, encodes two prompts with it block by
 * block, and prints the time and the memory that it took.
 *
 *     deno run -A bench/text_encoder.ts --stored f32
 *
 * @module
 */
import { choice, integer, type OptionValues } from "../tools/program/options.ts";
import { weightDtypeOption } from "../tools/program/model_options.ts";
import { runAsProgram } from "../tools/program/run_command.ts";
import { openPart } from "../model/checkpoint/open_part.ts";
import { Umt5Encoder } from "../model/umt5/encoder.ts";
import { writeRandomWeights } from "./full_size/random_weights.ts";
import { umt5Tensors } from "./full_size/tensor_spec.ts";
import { assertVaried } from "./random.ts";
import { benchOptions, handOver, onGpu, storedOption } from "./program.ts";
import { gib, markdownTable } from "./table.ts";

const options = {
  stored: storedOption("f32"),
  layers: integer({ help: "Blocks of the encoder.", default: 24, min: 1 }),
  size: choice({ choices: ["xxl", "small"], help: "Size of the encoder.", default: "xxl" }),
  ...benchOptions,
  "weight-dtype": weightDtypeOption,
};

const TOKENS = 512, PROMPT_TOKENS = 64;

/** UMT5-XXL's widths, and small ones for rehearsals. */
const WIDTHS = {
  xxl: { dModel: 4096, dFf: 10240, heads: 64, dKv: 64, vocabSize: 256384 },
  small: { dModel: 64, dFf: 160, heads: 2, dKv: 32, vocabSize: 1000 },
};

if (import.meta.main) await runAsProgram({ name: "deno run -A bench/text_encoder.ts", options, run: main });

async function main(values: OptionValues<typeof options>): Promise<void> {
  const { stored = "f32", layers = 24, size = "xxl" } = values;
  const shape = { ...WIDTHS[size], layers, relativeBuckets: 32, relativeMaxDistance: 128, eps: 1e-6 };
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
      const bytes = await timed("write", () => writeRandomWeights(dir, umt5Tensors(shape), dtype, 5e9));
      const source = await openPart(dir, { stem: "diffusion_pytorch_model" });
      using encoder = new Umt5Encoder(gpu, shape, source, { dtype: values["weight-dtype"] });
      const ids = Int32Array.from({ length: TOKENS }, (_, i) => i < PROMPT_TOKENS ? 17 * i % shape.vocabSize : 0);
      const prompts = [ids, ids.toReversed()].map((ids) => ({ ids, length: PROMPT_TOKENS }));
      for (const part of ["first", "second"] as const) {
        const encoded = await timed(part, async () => {
          const { text } = await encoder.encode(prompts);
          await gpu.finish();
          return text;
        });
        assertVaried((await gpu.read(encoded)).subarray(0, PROMPT_TOKENS * shape.dModel), "the embeddings");
        gpu.release(encoded);
      }
      const { peak } = gpu.memory;
      const weights = `${(bytes / 1e9).toFixed(2)} GB in ${stored}, ${layers} blocks`;
      handOver(
        values,
        { ...on, stored, layers, bytes, seconds, peak },
        markdownTable([
          ["what", `${on.adapter}, ${on.precision}`],
          ["weights", `${weights}, written in ${seconds.write.toFixed(1)} s`],
          ["two prompts of 512 tokens", `${seconds.first.toFixed(2)} s, then ${seconds.second.toFixed(2)} s`],
          ["GPU memory at its peak", gib(peak)],
        ]),
      );
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  });
}
