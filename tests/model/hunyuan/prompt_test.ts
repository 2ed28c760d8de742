import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { openSafetensors, readFloat32 } from "../../../model/checkpoint/safetensors.ts";
import { writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { fileAt, folderAt } from "../../../model/files/disk.ts";
import { HUNYUAN } from "../../../model/hunyuan/family.ts";
import { hunyuanEncoders, promptInTemplate } from "../../../model/hunyuan/prompt.ts";
import { openLlamaEncoder } from "../../../model/llama/encoder.ts";
import { TextPromptEncoder } from "../../../model/prompt_encoder.ts";
import { loadTokenizer } from "../../../model/tokenizer/tokenizer.ts";
import { randn, testVariants } from "../../gpu.ts";
import { ROOT } from "../../process.ts";

const FIXTURES = join(ROOT, "tests/fixtures"), CROP_START = 95;

Deno.test("the template has the prompt once, whatever is in it, and the encoders get their tokens", () => {
  const text = "a $& {} $1 cat", written = promptInTemplate(text);
  assert(written.startsWith("<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the"));
  assert(written.endsWith(`<|start_header_id|>user<|end_header_id|>\n\n${text}<|eot_id|>`));
  const encoders = hunyuanEncoders({ textDim: 4096, pooledDim: 768 });
  assertEquals(encoders.map(({ tokens }) => tokens!(256)), [351, 77]);
  assertEquals(encoders[1]!.prepare("a\u2019s &amp; b"), "a's & b");
});

/** A folder with the tiny encoders, CLIP with 77 positions, and tokenizers of single characters that fit them. */
async function withTinyModel(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  const write = async (path: string, value: object) => {
    await Deno.mkdir(join(folder, path, ".."), { recursive: true });
    await Deno.writeTextFile(join(folder, path), JSON.stringify(value));
  };
  const tokenizer = async (path: string, kind: string, size: number, added: Record<string, number>, post: object) => {
    const json = JSON.parse(
      new TextDecoder().decode(gunzipSync(await Deno.readFile(`${FIXTURES}/bpe/${kind}.json.gz`))),
    );
    const vocab = Object.entries<number>(json.model.vocab).filter(([, id]) => id < size);
    const added_tokens = Object.entries(added).map(([content, id]) => ({ content, id, special: true }));
    const model = { ...json.model, vocab: { ...Object.fromEntries(vocab), ...added }, merges: [] };
    await write(`${path}/tokenizer.json`, { ...json, added_tokens, model, ...post });
  };
  try {
    const special = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<pad>"];
    const ids = Object.fromEntries(special.map((token, i) => [token, 300 + i]));
    await tokenizer("tokenizer", "llama", 256, ids, { post_processor: null });
    await write("tokenizer/tokenizer_config.json", { pad_token: "<pad>", bos_token: special[0] });
    const [start, end] = ["<|startoftext|>", "<|endoftext|>"] as const;
    const frame = { post_processor: { type: "RobertaProcessing", cls: [start, 118], sep: [end, 119] } };
    await tokenizer("tokenizer_2", "clip", 118, { [start]: 118, [end]: 119 }, frame);
    await write("tokenizer_2/tokenizer_config.json", { pad_token: end });
    await Deno.symlink(`${FIXTURES}/tiny_llama`, `${folder}/text_encoder`);
    await Deno.mkdir(`${folder}/text_encoder_2`);
    const config = JSON.parse(await Deno.readTextFile(`${FIXTURES}/tiny_clip_text/config.json`));
    await write("text_encoder_2/config.json", { ...config, max_position_embeddings: 77 });
    using source = await openSafetensors(`${FIXTURES}/tiny_clip_text/model.safetensors`);
    const tensors = await Promise.all(
      source.names().map(async (name) => {
        const positions = name.includes("position_embedding");
        const data = positions ? randn(77 * 48, 1) : await readFloat32(source, name);
        return [`text_model.${name}`, {
          ...{ dtype: "F32", data } as const,
          shape: positions ? [77, 48] : source.info(name).shape,
        }] as const;
      }),
    );
    await writeSafetensors(`${folder}/text_encoder_2/model.safetensors`, Object.fromEntries(tensors));
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

testVariants("prompts become text with a length, and one vector", ({ gpu }) =>
  withTinyModel(async (path) => {
    const folder = {
      ...{ given: [], path, family: HUNYUAN, generation: HUNYUAN.defaults, className: () => undefined },
      component: (name: string) => Promise.resolve(folderAt(join(path, name))),
      file: (name: string) => fileAt(join(path, name)),
    };
    // In bytes, the template has more than 95 tokens.
    const textTokens = 560, prompts = ["a cat walks", "A \u201cred\u201d circle"], notes: string[] = [];
    const encoders = hunyuanEncoders({ textDim: 64, pooledDim: 48 });
    using encoder = new TextPromptEncoder(gpu, { folder, textDim: 64, encoders });
    const options = { onNote: (note: string) => notes.push(note) };
    const [first, second] = await encoder.encode(prompts, textTokens, options);
    assertEquals([first!.text.shape, first!.pooled!.shape], [[1, textTokens, 64], [1, 48]]);
    const tokenizer = await loadTokenizer(join(path, "tokenizer"));
    const tokenized = prompts.map((prompt) => tokenizer.encode(promptInTemplate(prompt), textTokens + CROP_START));
    assertEquals([first, second].map((of) => of!.textLength), tokenized.map(({ length }) => length - CROP_START));
    using alone = await openLlamaEncoder(gpu, join(path, "text_encoder"), 64, { cropStart: 95, skippedLayers: 2 });
    const { text } = await alone.encode([tokenized[1]!]);
    assertEquals(await gpu.read(second!.text), await gpu.read(text!));
    assert((await gpu.read(first!.pooled!)).some((v, i, all) => i > 0 && v !== all[0]));
    // A prompt that does not fit loses its end, and that is said.
    const [short] = await encoder.encode([prompts[0]!], 100, options);
    assertEquals([short!.text.shape, short!.textLength], [[1, 100, 64], 100]);
    // A vocabulary of single characters has no words, which is noted, too.
    const cut = notes.filter((note) => note.startsWith("the model reads 100 tokens, so the last "));
    assertEquals(cut.length, 1, notes.join("\n"));
    for (const  of of[first!, second!, short!]) [of.text, of.pooled!].forEach((tensor) => gpu.release(tensor));
    gpu.release(text!);
  }));
