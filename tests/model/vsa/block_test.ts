/** A block of FastWan, by its definition in float64. */
import { madeSource } from "../../../bench/full_size/made_source.ts";
import { transformerTensors } from "../../../bench/full_size/tensor_spec.ts";
import type { Grid } from "../../../model/attention/grid.ts";
import { Config } from "../../../model/checkpoint/json.ts";
import { ropeTable } from "../../../model/layers/rope.ts";
import { VsaAttention } from "../../../model/vsa/attention.ts";
import { Weights } from "../../../model/weights/weights.ts";
import { loadBlock, runBlock } from "../../../model/wan/block.ts";
import { transformerConfig } from "../../../model/wan/config.ts";
import { assert } from "@std/assert";
import { relativeError } from "../../../gpu/relative_error.ts";
import { assertClose, randn, testVariants } from "../../gpu.ts";
import { attend } from "../../reference_attention.ts";
import { vsaReference } from "./reference.ts";

const GRID: Grid = [5, 6, 9], TOKENS = 270, TEXT = 7, HEADS = 2, HEAD_DIM = 32, DIM = 64, SPARSITY = 0.6;
const CONFIG = {
  ...transformerConfig(
    new Config("config.json", {
      ...{ _class_name: "WanTransformer3DModel", num_attention_heads: HEADS, attention_head_dim: HEAD_DIM },
      ...{ ffn_dim: 96, num_layers: 1, text_dim: 32 },
    }),
  ),
  gated: true,
};

type Rows = Float64Array[];

testVariants("a block of Wan with VSA and its gate", async ({ gpu, bound }) => {
  const tensors = new Map(
    transformerTensors(CONFIG).map(({ name, shape }, i) => {
      const count = shape.reduce((a, b) => a * b), matrix = shape.length === 2;
      const numbers = randn(count, i, matrix ? 1 / Math.sqrt(shape[1]!) : 0.3);
      return [name, /norm.*weight$/.test(name) ? numbers.map((x) => 1 + x) : numbers];
    }),
  );
  const of = (name: string) => tensors.get(`blocks.0.${name}`)!;
  using source = madeSource(
    "the block",
    transformerTensors(CONFIG),
    "F32",
    ({ name }, _, start, length) => new Uint8Array(tensors.get(name)!.buffer as ArrayBuffer, start, length),
  );
  using weights = new Weights(gpu, source);
  const block = await loadBlock(weights.scope("blocks.0."), CONFIG);
  const x = randn(TOKENS * DIM, 101), text = randn(TEXT * DIM, 102), time = randn(6 * DIM, 103, 0.3);
  const table = ropeTable(GRID, [HEAD_DIM - 20, 10, 10], 10000);
  using attention = new VsaAttention(gpu, CONFIG, { grid: GRID, kept: 0 }, SPARSITY);

  const run = async (gated: boolean) => {
    const y = gpu.scope(() =>
      runBlock(gpu, block, CONFIG, gpu.upload(x, [1, TOKENS, DIM]), {
        ...{ text: gpu.upload(text, [1, TEXT, DIM]), time: gpu.upload(time, [1, 6, DIM]) },
        rope: { table: gpu.upload(table, [TOKENS, HEAD_DIM / 2, 2]) },
        selfAttention: Object.assign(
          (...[q, k, v, , gate]: Parameters<NonNullable<Parameters<typeof runBlock>[4]["selfAttention"]>>) =>
            attention.attend(q, k, v, gate),
          { takesGate: gated },
        ),
      }, 0)
    );
    const numbers = await gpu.read(y);
    gpu.release(y);
    return numbers;
  };
  const linear = (rows: Rows, name: string): Rows => {
    const w = of(`${name}.weight`), b = of(`${name}.bias`);
    return rows.map((row) =>
      Float64Array.from(b, (bias, o) => row.reduce((sum, value, i) => sum + value * w[o * row.length + i]!, bias))
    );
  };
  const rows = (numbers: ArrayLike<number>): Rows =>
    Array.from(
      { length: numbers.length / DIM },
      (_, i) => Float64Array.from({ length: DIM }, (_, c) => numbers[i * DIM + c]!),
    );
  const flat = (of: Rows) => Float64Array.from(of.flatMap((row) => [...row]));
  const map = (of: Rows, f: (value: number, channel: number, row: number) => number): Rows =>
    of.map((row, i) => row.map((value, c) => f(value, c, i)));
  const mean = (row: Float64Array) => row.reduce((a, b) => a + b) / row.length;
  const norm = (of: Rows): Rows =>
    of.map((row) => {
      const centre = mean(row), variance = mean(row.map((value) => (value - centre) ** 2));
      return row.map((value) => (value - centre) / Math.sqrt(variance + CONFIG.eps));
    });
  const rms = (of_: Rows, name: string): Rows =>
    of_.map((row) => {
      const scale = 1 / Math.sqrt(mean(row.map((value) => value * value)) + CONFIG.eps);
      return row.map((value, c) => value * scale * of(`${name}.weight`)[c]!);
    });
  const rope = (of: Rows): Rows =>
    of.map((row, token) =>
      row.map((value, c) => {
        const pair = (c % HEAD_DIM) >> 1, [cos, sin] = [0, 1].map((i) => table[(token * HEAD_DIM / 2 + pair) * 2 + i]!);
        return value * cos! + (c % 2 === 0 ? -row[c + 1]! : row[c - 1]!) * sin!;
      })
    );
  const mod = (i: number, c: number) => of("scale_shift_table")[i * DIM + c]! + time[i * DIM + c]!;
  const modulated = (of: Rows, shift: number) =>
    map(norm(of), (value, c) => value * (1 + mod(shift + 1, c)) + mod(shift, c));
  const reference = (gated: boolean): Float64Array => {
    const x0 = rows(x), n = modulated(x0, 0), layout = { grid: GRID, kept: 0 };
    const q = rope(rms(linear(n, "attn1.to_q"), "attn1.norm_q")),
      k = rope(rms(linear(n, "attn1.to_k"), "attn1.norm_k"));
    const gate = gated ? flat(linear(n, "attn1.to_gate_compress")) : undefined;
    const self = vsaReference(flat(q), flat(k), flat(linear(n, "attn1.to_v")), gate, {
      ...{ layout, batch: 1, heads: HEADS, headDim: HEAD_DIM, sparsity: SPARSITY },
    });
    const x1 = map(linear(rows(self), "attn1.to_out.0"), (value, c, i) => x0[i]![c]! + mod(2, c) * value);
    const n1 = map(norm(x1), (value, c) => value * of("norm2.weight")[c]! + of("norm2.bias")[c]!);
    const cross = attend(
      flat(rms(linear(n1, "attn2.to_q"), "attn2.norm_q")),
      flat(rms(linear(rows(text), "attn2.to_k"), "attn2.norm_k")),
      flat(linear(rows(text), "attn2.to_v")),
      { batch: 1, queries: TOKENS, keys: TEXT, heads: HEADS, headDim: HEAD_DIM },
    );
    const x2 = map(linear(rows(cross), "attn2.to_out.0"), (value, c, i) => x1[i]![c]! + value);
    const gelu = (a: number) => 0.5 * a * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (a + 0.044715 * a ** 3)));
    const hidden = map(linear(modulated(x2, 3), "ffn.net.0.proj"), gelu);
    return flat(map(linear(hidden, "ffn.net.2"), (value, c, i) => x2[i]![c]! + mod(5, c) * value));
  };
  const gated = reference(true), plain = reference(false);
  assert(relativeError(gated, plain) > 0.02, "the gate counts");
  assertClose(await run(true), gated, 2 * bound);
  assertClose(await run(false), plain, 2 * bound);
});
