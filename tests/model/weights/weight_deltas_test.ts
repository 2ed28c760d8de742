import { assert, assertEquals, assertRejects } from "@std/assert";
import { TilereelError } from "../../../gpu/common/errors.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { combine } from "../../../gpu/ops/combine.ts";
import { linear } from "../../../gpu/ops/linear.ts";
import { openPart } from "../../../model/checkpoint/open_part.ts";
import { placeWeights } from "../../../model/blocks/weights_place.ts";
import { readFloat32, type TensorSource } from "../../../model/checkpoint/tensor_source.ts";
import { writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { VideoPipeline } from "../../../model/pipeline.ts";
import { WAN } from "../../../model/wan/family.ts";
import { TRANSFORMER_WEIGHTS } from "../../../model/wan/weights.ts";
import { type OpenModelDeltas, openWeightOptions, type WeightDeltas } from "../../../model/weights/weight_options.ts";
import { writeRandomCheckpoint } from "../../../bench/full_size/checkpoint.ts";
import { assertClose, randn, testOnGpu } from "../../gpu.ts";
import { inTempDir, MODEL } from "../../process.ts";

const DIM = 64, RANK = 4;
const SMALL = {
  stored: "F32",
  transformer: { num_attention_heads: 2, attention_head_dim: 32, num_layers: 2, ffn_dim: 96, text_dim: 48 },
  vae: { base_dim: 8, num_res_blocks: 1 },
} as const;

/** The keys of a LoRA as three programs write them, each for one matrix, and what they are to Wan. */
const KEYS = {
  "diffusion_model.blocks.0.self_attn.q": "blocks.0.attn1.to_q.weight",
  "transformer.blocks.1.attn2.to_out.0": "blocks.1.attn2.to_out.0.weight",
  "lora_unet_blocks_1_cross_attn_k": "blocks.1.attn2.to_k.weight",
};

/** The factors of one matrix: up [DIM, RANK], and down [RANK, DIM], here transposed. */
const factors = (seed: number) => ({ up: randn(DIM * RANK, seed), down: randn(DIM * RANK, 10 + seed) });

/** A LoRA of square matrices in a dozen lines, as `model/lora/` may be. */
function toyLora(keys: readonly string[], state: { open: number }): OpenModelDeltas {
  return (gpu, family) => {
    const names = keys.map((key) => family.parts.transformer!.weights!.names!(`${key}.weight`) as string);
    const loaded = new Map(names.map((name, i) => {
      const { up, down } = factors(i);
      return [name, { up: gpu.upload(up, [DIM, RANK]), down: gpu.upload(down, [DIM, RANK]) }];
    }));
    state.open++;
    const deltas = {
      ...{ path: "toy.safetensors", names, held: DIM * 2 * RANK * keys.length * 4, bytes: DIM * DIM * 4 },
      of: (name: string, shape: readonly number[]) => {
        const lora = loaded.get(name);
        if (!lora) return undefined;
        assertEquals(shape, [DIM, DIM]);
        return { rows: (start: number, count: number) => linear(gpu, lora.up.rows(start, count), lora.down) };
      },
    };
    return Promise.resolve({
      of: (part) => part === "transformer" ? deltas : undefined,
      [Symbol.dispose]: () => {
        state.open--;
        for (const tensor of [...loaded.values()].flatMap(({ up, down }) => [up, down])) gpu.release(tensor);
      },
    });
  };
}

/** Half of what is added. */
function halved(gpu: Gpu, deltas: WeightDeltas | undefined): WeightDeltas | undefined {
  return deltas && {
    ...deltas,
    of: (name, shape) => {
      const delta = deltas.of(name, shape);
      return delta && { rows: (start, count) => gpu.scope(() => combine(gpu, [[0.5, delta.rows(start, count)]])) };
    },
  };
}

/** Writes a copy of a model whose weights have the products of the factors added. */
async function mergedModel(dir: string, merged: string): Promise<void> {
  await writeRandomCheckpoint(merged, SMALL);
  using stored = await openPart(`${dir}/transformer`, TRANSFORMER_WEIGHTS);
  const tensors = await Promise.all(
    stored.names().map(async (name) => {
      const data = await readFloat32(stored, name), { shape } = stored.info(name);
      const i = Object.values(KEYS).indexOf(name), { up, down } = factors(i);
      const delta = (at: number) => {
        const row = Math.floor(at / DIM) * RANK, column = at % DIM * RANK;
        return Array.from({ length: RANK }, (_, k) => up[row + k]! * down[column + k]!).reduce((a, b) => a + b);
      };
      return [name, { dtype: "F32", shape, data: i < 0 ? data : data.map((value, at) => value + delta(at)) }] as const;
    }),
  );
  await Deno.remove(`${merged}/transformer/diffusion_pytorch_model.safetensors.index.json`).catch(() => {});
  await writeSafetensors(`${merged}/transformer/diffusion_pytorch_model.safetensors`, Object.fromEntries(tensors));
}

testOnGpu(
  "a LoRA of other programs' keys gives what merged weights give, resident and streamed",
  (gpu) =>
    inTempDir(async (dir) => {
      const base = `${dir}/base`, merged = `${dir}/merged`, state = { open: 0 };
      await writeRandomCheckpoint(base, SMALL);
      await mergedModel(base, merged);
      const sample = async (model: string, options: Partial<Parameters<typeof VideoPipeline.load>[1]>) => {
        const pipeline = await VideoPipeline.load(model, { gpu, weightDtype: "stored", ...options });
        const embeddings = { positive: randn(5 * 48, 1) }, clip = { width: 32, height: 32, frames: 5 };
        const latents = await pipeline.sampleLatents({ prompt: "", ...clip, steps: 2, guidance: 1, embeddings });
        const numbers = await gpu.read(latents);
        gpu.release(latents);
        const { bytes } = pipeline.weights;
        pipeline.close();
        return { numbers, bytes };
      };
      const plain = await sample(base, {}), wanted = await sample(merged, {});
      const adjust = toyLora(Object.keys(KEYS), state);
      for (const weights of ["resident", "stream"] as const) {
        const { numbers, bytes } = await sample(base, { adjust, weights });
        assertClose(numbers, wanted.numbers, 1e-5);
        // Of several, the sum is added.
        const halves = [adjust, adjust].map((open): OpenModelDeltas => async (gpu, family) => {
          const deltas = await open(gpu, family);
          return { ...deltas, of: (part) => halved(gpu, deltas.of(part)) };
        });
        assertClose((await sample(base, { adjust: halves, weights })).numbers, numbers, 1e-5);
        if (weights === "resident") assertEquals(bytes, plain.bytes + DIM * (2 * RANK * 3 + DIM) * 4);
      }
      assert(plain.numbers.some((value, i) => Math.abs(value - wanted.numbers[i]!) > 1e-2), "the LoRA changes nothing");

      const { used } = gpu.memory, strange = toyLora([...Object.keys(KEYS), "lora_unet_blocks_7_norm", "x"], state);
      await assertRejects(
        () => sample(base, { adjust: strange }),
        TilereelError,
        'toy.safetensors adds to "blocks.7.norm.weight" and 1 more, which ',
      );
      assertEquals([state.open, gpu.memory.used], [0, used]);
    }),
);

testOnGpu("tensors that are added to weights, and are on the GPU, are counted once", async (gpu) => {
  await gpu.finish();
  const held = gpu.tensor([1024]),
    info = { name: "x.weight", dtype: "F32", shape: [64, 64], bytes: 4 * 64 * 64 } as const;
  const weights = { names: () => [info.name], info: () => info } as unknown as TensorSource;
  const adjust = { path: "", names: [], held: held.bytes, bytes: 4096, of: () => undefined };
  const place = (work: number) =>
    placeWeights(gpu, { weights, shape: { layers: 1, heads: 1, headDim: 64 } }, work, "auto", {
      dtype: "stored",
      adjust,
    });
  const left = gpu.memoryBudget - gpu.memory.used - info.bytes - adjust.bytes;
  assertEquals([place(left), place(left + 1)].map(({ place }) => place), ["resident", "stream"]);
  assertEquals(place(left).bytes, info.bytes + held.bytes + adjust.bytes);
  gpu.release(held);
});

testOnGpu("what is added to a text encoder that is replaced is refused", async (gpu) => {
  const deltas = { path: "toy.safetensors", names: ["x"], held: 0, bytes: 0, of: () => undefined };
  let open = 0;
  const adjust: OpenModelDeltas = () => {
    open++;
    return Promise.resolve({
      of: (part: string) => part === "text_encoder" ? deltas : undefined,
      [Symbol.dispose]: () => void open--,
    });
  };
  await assertRejects(
    () => openWeightOptions(gpu, WAN, { adjust, textEncoder: () => {} }),
    TilereelError,
    "toy.safetensors adds to the weights of text_encoder, but another text encoder is used in its place",
  );
  assertEquals(open, 0);
  using options = await openWeightOptions(gpu, WAN, { adjust });
  assertEquals(options.of("text_encoder").adjust, deltas);
  // Given embeddings say so in a note, since the next clip may have none.
  const pipeline = await VideoPipeline.load(MODEL, { gpu, adjust }), notes: string[] = [];
  const embeddings = { positive: new Float32Array(pipeline.textDim) }, clip = { width: 32, height: 32, frames: 1 };
  const asked = { prompt: "", ...clip, steps: 1, guidance: 1, embeddings, onNote: (note: string) => notes.push(note) };
  gpu.release(await pipeline.sampleLatents(asked));
  pipeline.close();
  assertEquals(notes.filter((note) => note.startsWith("toy.safetensors")), [
    "toy.safetensors changes the text encoder, which given embeddings do not need",
  ]);
});
