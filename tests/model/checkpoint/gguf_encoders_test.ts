/** Text encoders as llama.cpp writes them: names, rows in pairs, and the tokenizer in the file's metadata. */
import { assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { findPart } from "../../../model/checkpoint/loose/found_part.ts";
import { tokenizerPlace } from "../../../model/checkpoint/loose/tokenizer_place.ts";
import { openPart } from "../../../model/checkpoint/open_part.ts";
import { readFloat32 } from "../../../model/checkpoint/tensor_source.ts";
import { folderAt } from "../../../model/files/disk.ts";
import { LLAMA_WEIGHTS } from "../../../model/llama/block.ts";
import { loadTokenizer } from "../../../model/tokenizer/tokenizer.ts";
import { inTempDir, MODEL } from "../../process.ts";
import { ggufBytes, type GgufTensor } from "./gguf_bytes.ts";

const HUNYUAN = new URL("../../fixtures/tiny_hunyuan_pipeline", import.meta.url).pathname;
const TEXTS = ["a small blue circle, moving right", "Un été «à» 1234 km/h!  Two  spaces\n\nand lines", "火 and fire's"];
const NAMES: readonly (readonly [transformers: string, ggml: string])[] = [
  ["embed_tokens", "token_embd"],
  [".input_layernorm", ".attn_norm"],
  [".post_attention_layernorm", ".ffn_norm"],
  [".self_attn.o_proj", ".attn_output"],
  ...["q", "k", "v"].map((name) => [`.self_attn.${name}_proj`, `.attn_${name}`] as const),
  ...["gate", "up", "down"].map((name) => [`.mlp.${name}_proj`, `.ffn_${name}`] as const),
];

/** As llama.cpp's converter has the rows of queries and keys: one of each half of a head after the other. */
function paired(values: Float32Array, ofHead: number, width: number): Float32Array {
  const rows = values.length / width, half = ofHead / 2;
  const out = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    const head = Math.floor(row / ofHead), within = row % ofHead;
    const to = head * ofHead + 2 * (within % half) + Math.floor(within / half);
    out.set(values.subarray(row * width, (row + 1) * width), to * width);
  }
  return out;
}

interface TokenizerJson {
  readonly added_tokens: { id: number; content: string }[];
  readonly model: { vocab: Record<string, number> | [string, number][]; merges?: [string, string][] };
}

async function tokensOf(folder: Parameters<typeof loadTokenizer>[0]): Promise<number[][]> {
  const tokenizer = await loadTokenizer(folder);
  return TEXTS.map((text) => {
    const { ids, length } = tokenizer.encode(text, 64);
    return [...ids.subarray(0, length)];
  });
}

Deno.test("LLaMA in GGUF has the numbers and the tokenizer of transformers' files", () =>
  inTempDir(async (dir) => {
    using source = await openPart(join(HUNYUAN, "text_encoder"), LLAMA_WEIGHTS);
    const tensors: Record<string, GgufTensor> = {};
    for (const name of source.names()) {
      const { shape } = source.info(name), values = await readFloat32(source, name);
      const data = /\.[qk]_proj/.test(name) ? paired(values, 16, shape[1]!) : values;
      const as = NAMES.reduce(
        (name, [from, to]) => name.replace(from, to),
        name.replace(/^layers/, "blk").replace(/^norm/, "output_norm"),
      );
      tensors[as] = { shape, type: 0, data: new Uint8Array(data.buffer) };
    }
    const described: TokenizerJson = JSON.parse(await Deno.readTextFile(join(HUNYUAN, "tokenizer/tokenizer.json")));
    const tokens = Object.entries(described.model.vocab as Record<string, number>).sort(([, a], [, b]) => a - b).map((
      [token],
    ) => token);
    const special = described.added_tokens.map(({ content }) => content), all = [...tokens, ...special];
    const idOf = (token: string) => all.indexOf(token);
    const values = {
      "llama.rope.dimension_count": 16,
      "llama.rope.freq_base": 500000,
      "tokenizer.ggml.tokens": all,
      "tokenizer.ggml.token_type": Int32Array.from(all, (_, id) => id < tokens.length ? 1 : 3),
      "tokenizer.ggml.merges": described.model.merges!.map((pair) => pair.join(" ")),
      "tokenizer.ggml.bos_token_id": idOf("<|begin_of_text|>"),
      "tokenizer.ggml.eos_token_id": idOf("<|end_of_text|>"),
    };
    const texts = {
      "general.architecture": "llama",
      "tokenizer.ggml.model": "gpt2",
      "tokenizer.ggml.pre": "llama-bpe",
    };
    const file = join(dir, "llava.gguf");
    await Deno.writeFile(file, ggufBytes(tensors, { texts, values }));
    using read = await openPart(file, LLAMA_WEIGHTS);
    assertEquals(read.names().sort(), source.names().sort());
    for (const name of source.names()) {
      assertEquals(await readFloat32(read, name), await readFloat32(source, name), name);
    }
    const q = "layers.1.self_attn.q_proj.weight", { bytes } = read.info(q), whole = await read.read(q);
    for (const [start, length] of [[0, 4], [4, 700], [bytes - 132, 132], [128, 1024]] as const) {
      assertEquals(await read.readRange(q, start, length), whole.slice(start, start + length));
    }
    const rows = await read.readRows(q, [9, 0]), row = bytes / read.info(q).shape[0]!;
    assertEquals(rows.slice(0, row), whole.slice(9 * row, 10 * row));

    const found = (await findPart(folderAt(file)))!;
    assertEquals([found.part, found.config.value("head_dim"), found.config.value("num_key_value_heads")], [
      "text_encoder",
      16,
      1,
    ]);
    const place = (await tokenizerPlace(undefined, "tokenizer", found))!;
    assertEquals(await tokensOf(place), await tokensOf(join(HUNYUAN, "tokenizer")));
    await Deno.writeFile(file, ggufBytes(tensors, { texts: { ...texts, "tokenizer.ggml.pre": "qwen2" }, values }));
    const other = (await tokenizerPlace(undefined, "tokenizer", await findPart(folderAt(file))))!;
    await assertRejects(() => loadTokenizer(other), TilereelError, "its tokenizer is damaged or of another kind");
    await Deno.writeFile(
      file,
      ggufBytes({ ...tensors, "rope_freqs.weight": { shape: [8], type: 0, data: new Uint8Array(32) } }, { texts }),
    );
    await assertRejects(() => findPart(folderAt(file)), TilereelError, "whose RoPE is scaled");
  }));

Deno.test("UMT5 in GGUF brings its tokenizer", () =>
  inTempDir(async (dir) => {
    const described = JSON.parse(await Deno.readTextFile(join(MODEL, "tokenizer/tokenizer.json")));
    const vocab: [string, number][] = described.model.vocab;
    const special = new Set((described.added_tokens as { content: string }[]).map(({ content }) => content));
    const file = join(dir, "umt5.gguf"), texts = { "general.architecture": "t5encoder", "tokenizer.ggml.model": "t5" };
    const values = {
      "tokenizer.ggml.tokens": vocab.map(([token]) => token),
      "tokenizer.ggml.scores": Float32Array.from(vocab, ([, score]) => score),
      "tokenizer.ggml.token_type": Int32Array.from(vocab, ([token]) =>
        token === "<unk>" ? 2 : special.has(token) ? 3 : 1),
      "tokenizer.ggml.precompiled_charsmap": new Uint8Array(0),
      "tokenizer.ggml.eos_token_id": vocab.findIndex(([token]) =>
        token === "</s>"
      ),
      "tokenizer.ggml.padding_token_id": vocab.findIndex(([token]) => token === "<pad>"),
    };
    const bias = (block: number) => `enc.blk.${block}.attn_rel_b.weight`,
      one = { shape: [32, 4], type: 0, data: new Uint8Array(512) };
    const tensors = Object.fromEntries(
      [
        bias(0),
        bias(1),
        "enc.blk.1.ffn_up.weight",
        "enc.blk.0.ffn_gate.weight",
        "enc.blk.0.attn_q.weight",
        "token_embd.weight",
      ]
        .map((name) => [name, one]),
    );
    await Deno.writeFile(file, ggufBytes(tensors, { texts, values }));
    const found = (await findPart(folderAt(file)))!;
    const place = (await tokenizerPlace(undefined, "tokenizer", found))!;
    const [short] = TEXTS, tokenizer = await loadTokenizer(place), own = await loadTokenizer(join(MODEL, "tokenizer"));
    assertEquals([...tokenizer.encode(short!, 32).ids], [...own.encode(short!, 32).ids]);
  }));
