import { loadTokenizer } from "../../../model/tokenizer/tokenizer.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { gunzipSync } from "node:zlib";

const DEMO = new URL("../../../model/demo/tokenizer", import.meta.url).pathname;

async function fixture(): Promise<{ text: string; ids: number[] }[]> {
  return JSON.parse(await Deno.readTextFile(new URL("../../fixtures/tokens.json", import.meta.url)));
}

Deno.test("token ids are transformers'", async () => {
  const tokenizer = await loadTokenizer(DEMO);
  for (const { text, ids } of await fixture()) {
    const encoded = tokenizer.encode(text, 32);
    assertEquals([...encoded.ids.subarray(0, encoded.length)], ids);
    assertEquals([...encoded.ids.subarray(encoded.length)], new Array(32 - ids.length).fill(tokenizer.padId));
  }
});

Deno.test("a text that is too long keeps its end token", async () => {
  const tokenizer = await loadTokenizer(DEMO);
  for (const { text, ids } of await fixture()) {
    for (const maxLength of [1, 2, 8, ids.length, ids.length + 1]) {
      const encoded = tokenizer.encode(text, maxLength);
      const expected = [...ids.slice(0, -1).slice(0, maxLength - 1), 1];
      assertEquals([...encoded.ids.subarray(0, encoded.length)], expected);
      assertEquals(encoded.ids.length, maxLength);
    }
  }
});

Deno.test("a template's start tokens come first, and stay where a text is too long", async () => {
  const json = JSON.parse(await Deno.readTextFile(`${DEMO}/tokenizer.json`));
  const [text, end] = json.post_processor.single, starts = ["<s>", "<t>"];
  json.added_tokens.push(...starts.map((content, i) => ({ id: 200 + i, content, special: true })));
  json.post_processor.single = [...starts.map((id) => ({ SpecialToken: { id } })), text, end];
  json.post_processor = { type: "Sequence", processors: [json.post_processor] };
  const files = { "tokenizer.json": JSON.stringify(json), "tokenizer_config.json": CONFIG };
  await inFolder(files, async (folder) => {
    const plain = await loadTokenizer(DEMO), framed = await loadTokenizer(folder);
    const { ids, length } = plain.encode("a red circle", 32),
      { ids: all, length: more } = framed.encode("a red circle", 32);
    assertEquals([...all.subarray(0, more)], [200, 201, ...ids.subarray(0, length)]);
    const cut = framed.encode("a red circle", 4);
    assertEquals([[...cut.ids], cut.length, cut.lost], [[200, 201, ids[0]!, 1], 4, length - 2]);
  });
});

Deno.test("what of a text the model does not see: tokens past the end, and words that it has none for", async () => {
  const tokenizer = await loadTokenizer(DEMO);
  const text = "a big red circle and a Cat on a black background, 赤い";
  const { length } = tokenizer.encode(text, 100);
  assertEquals([100, length, 5].map((room) => tokenizer.encode(text, room).lost), [0, 0, length - 5]);
  assertEquals(tokenizer.unknownWords(text), ["Cat", "赤い"]);
  for (const { text } of (await fixture()).filter(({ text }) => /^a (big|small)/.test(text))) {
    assertEquals(tokenizer.unknownWords(text), [], text);
  }
});

/** Runs a test in a folder with these files, gone afterwards. */
async function inFolder(files: Record<string, string | Uint8Array>, test: (folder: string) => Promise<void>) {
  const folder = await Deno.makeTempDir();
  try {
    for (const [name, content] of Object.entries(files)) {
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
      await Deno.writeFile(`${folder}/${name}`, bytes);
    }
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function unzipped(name: string, folder = "unigram"): Promise<Uint8Array> {
  return gunzipSync(await Deno.readFile(new URL(`../../fixtures/${folder}/${name}.gz`, import.meta.url)));
}

async function unzippedJson(name: string, folder: string) {
  return JSON.parse(new TextDecoder().decode(await unzipped(name, folder)));
}

const CONFIG = '{"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}';

// 8000 pieces of some 500 languages with SentencePiece's nmt_nfkc table; ids are those of Hugging Face's tokenizers 0.22.
Deno.test("a multilingual Unigram: ids are tokenizers', by tokenizer.json and by spiece.model", async () => {
  const rows: { text: string; ids: number[]; withoutBytes?: number[] }[] = await unzippedJson("ids.json", "unigram");
  assert(rows.length > 1000);
  const wrong = async (files: Record<string, Uint8Array>, expected: (row: typeof rows[number]) => number[]) => {
    const found: string[] = [];
    await inFolder({ ...files, "tokenizer_config.json": CONFIG }, async (folder) => {
      const tokenizer = await loadTokenizer(folder);
      for (const row of rows) {
        const { ids, length } = tokenizer.encode(row.text, 512), mine = ids.subarray(0, length).join();
        if (mine !== expected(row).join()) found.push(`${JSON.stringify(row.text)}: ${mine}, not ${expected(row)}`);
      }
    });
    return found;
  };
  assertEquals(await wrong({ "tokenizer.json": await unzipped("tokenizer.json") }, ({ ids }) => ids), []);
  // Made as transformers' converter does, which leaves the fallback to bytes out; "<extra_id_0>" is in the JSON alone.
  const spiece = { "spiece.model": await unzipped("spiece.model") };
  const differ = await wrong(spiece, ({ ids, withoutBytes }) => withoutBytes ?? ids);
  assertEquals(differ.filter((row) => !row.includes("<extra_id_")), []);
});

// Vocabularies of 1500 tokens, trained and encoded by Hugging Face's tokenizers 0.23.2.
for (const [kind, pad_token] of [["llama", "<pad>"], ["clip", "<|endoftext|>"]] as const) {
  Deno.test(`byte-level BPE as ${kind} has it: ids are tokenizers'`, async () => {
    const rows: { text: string; llama: number[]; clip: number[] }[] = await unzippedJson("ids.json", "bpe");
    assert(rows.length > 600);
    const json = await unzippedJson(`${kind}.json`, "bpe"), { vocab } = json.model;
    const merges = json.model.merges.map((pair: string[]) => pair.join(" "));
    const plain = { "vocab.json": JSON.stringify(vocab), "merges.txt": ["#version: 0.2", ...merges, ""].join("\n") };
    for (const files of [{ "tokenizer.json": JSON.stringify(json) }, ...kind === "clip" ? [plain] : []]) {
      await inFolder({ ...files, "tokenizer_config.json": JSON.stringify({ pad_token }) }, async (folder) => {
        const tokenizer = await loadTokenizer(folder);
        for (const row of rows) {
          const { ids, length } = tokenizer.encode(row.text, 512);
          assertEquals([...ids.subarray(0, length)], row[kind], JSON.stringify(row.text));
        }
        assertEquals(tokenizer.encode("", 2).length, kind === "clip" ? 2 : 1);
        const all = rows.find(({ text }) => text === "x".repeat(300))![kind],
          { ids, lost } = tokenizer.encode("x".repeat(300), 9);
        assertEquals([...ids], kind === "clip" ? [...all.slice(0, 8), all.at(-1)] : all.slice(0, 9));
        assertEquals(lost, all.length - 9);
      });
    }
  });
}

Deno.test("LLaMA 3's first files have no template: the start token comes first once all the same", async () => {
  const json = await unzippedJson("llama.json", "bpe"), pad_token = "<pad>", bos_token = "<|begin_of_text|>";
  const without = { ...json, post_processor: json.post_processor.processors[0] };
  assertEquals(without.post_processor.type, "ByteLevel");
  const ids = async (tokenizer: unknown, config: object) => {
    const files = { "tokenizer.json": JSON.stringify(tokenizer), "tokenizer_config.json": JSON.stringify(config) };
    let encoded: number[] = [];
    await inFolder(files, async (folder) => {
      const { ids, length } = (await loadTokenizer(folder)).encode("a red circle<|eot_id|>", 64);
      encoded = [...ids.subarray(0, length)];
    });
    return encoded;
  };
  const expected = await ids(json, { pad_token });
  assertEquals([expected[0], expected.at(-1), expected.filter((id) => id === 1500).length], [1500, 1502, 1]);
  for (const tokenizer of [json, without]) {
    assertEquals(await ids(tokenizer, { pad_token, bos_token }), expected);
    assertEquals(await ids(tokenizer, { pad_token, bos_token: { content: bos_token }, add_bos_token: true }), expected);
  }
  for (const config of [{ pad_token }, { pad_token, bos_token, add_bos_token: false }]) {
    await assertRejects(() => ids(without, config), TilereelError, "puts no token around a text");
  }
});

Deno.test("vocab.json without merges.txt, or of another model than CLIP", () =>
  inFolder({ "tokenizer_config.json": CONFIG, "vocab.json": '{"a": 0}' }, async (folder) => {
    await assertRejects(() => loadTokenizer(folder), TilereelError, "but CLIP's vocabulary was expected");
    await Deno.writeTextFile(`${folder}/vocab.json`, '{"<|startoftext|>": 0, "<|endoftext|>": 1}');
    await assertRejects(() => loadTokenizer(folder), TilereelError, "merges.txt does not exist");
  }));

Deno.test("500 words are encoded in a moment", () =>
  inFolder({ "tokenizer_config.json": CONFIG }, async (folder) => {
    await Deno.writeFile(`${folder}/tokenizer.json`, await unzipped("tokenizer.json"));
    const tokenizer = await loadTokenizer(folder),
      words = Array.from({ length: 500 }, (_, i) => `Wörter${i}`).join(" ");
    tokenizer.encode(words, 512);
    const start = performance.now();
    for (let i = 0; i < 10; i++) tokenizer.encode(words, 512);
    const milliseconds = (performance.now() - start) / 10;
    // Ten times what it takes alone: tests run side by side.
    assert(milliseconds < 500, `${milliseconds} ms`);
  }));

Deno.test("a spiece.model that is none, is damaged, or of another kind", async () => {
  const bytes = await unzipped("spiece.model");
  const refuses = (model: Uint8Array, message: string) =>
    inFolder({ "tokenizer_config.json": CONFIG, "spiece.model": model }, async (folder) => {
      await assertRejects(() => loadTokenizer(folder), TilereelError, message);
    });
  await refuses(new Uint8Array(), "spiece.model is empty, but a SentencePiece model was expected");
  await refuses(bytes.slice(0, 1000), "or it is damaged");
  await refuses(new TextEncoder().encode("<html></html>"), "spiece.model is a web page");
  const ofBpe = new Uint8Array([0x0a, 3, 0x0a, 1, 0x61, 0x12, 2, 0x18, 2]);
  await refuses(ofBpe, "is a SentencePiece model of another kind than Unigram");
});

Deno.test("a vocabulary of UMT5's size", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const json = JSON.parse(await Deno.readTextFile(`${DEMO}/tokenizer.json`));
    const vocab: [string, number][] = json.model.vocab;
    for (let id = vocab.length; id < 256_000; id++) vocab.push([`▁word${id.toString(36)}`, -4]);
    await Deno.writeTextFile(`${folder}/tokenizer.json`, JSON.stringify(json));
    await Deno.copyFile(`${DEMO}/tokenizer_config.json`, `${folder}/tokenizer_config.json`);
    const tokenizer = await loadTokenizer(folder);
    const { ids, length } = tokenizer.encode(`a word${(200_000).toString(36)}`, 8);
    assertEquals([...ids.subarray(0, length)], [3, 200_000, 1]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("folders that hold no tokenizer are refused", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await assertRejects(() => loadTokenizer(folder), TilereelError, "tokenizer_config.json does not exist");
    const config = `${folder}/tokenizer_config.json`;
    await Deno.writeTextFile(config, "{}");
    await assertRejects(() => loadTokenizer(folder), TilereelError, "tokenizer.json does not exist");
    const path = `${folder}/tokenizer.json`;
    for (
      const text of [
        "{}",
        '{"model": {"type": "Unigram"}}',
        '{"model": {"type": "Nothing"}}',
        "[1]",
        '{"model": {"type": "BPE"}}',
      ]
    ) {
      await Deno.writeTextFile(path, text);
      await assertRejects(() => loadTokenizer(folder), TilereelError, path);
    }
    const json = JSON.parse(await Deno.readTextFile(`${DEMO}/tokenizer.json`));
    for (
      const [change, message] of [
        [{ normalizer: { type: "Precompiled", precompiled_charsmap: "AAAA" } }, "precompiled_charsmap, is damaged"],
        [
          { normalizer: { type: "Precompiled", precompiled_charsmap: "!" } },
          "is damaged or holds a tokenizer of a kind",
        ],
        [{ normalizer: { type: "Other" } }, 'a kind that is not supported ("Unknown Normalizer type: Other")'],
        [{ pre_tokenizer: { type: "Other" } }, 'a kind that is not supported ("Unknown PreTokenizer type: Other")'],
        [{ normalizer: { type: "Replace", pattern: { Regex: "(" }, content: "" } }, "Invalid regular expression"],
        [{ post_processor: null }, "puts no token around a text"],
        [{ post_processor: { type: "TemplateProcessing", single: [] } }, "the post-processor puts no special tokens"],
        [
          { post_processor: { type: "TemplateProcessing", single: [{ Sequence: { id: "A" } }, { SpecialToken: {} }] } },
          "the post-processor puts no special tokens",
        ],
        [{ post_processor: { type: "Sequence", processors: [] } }, "puts no token around a text"],
        [
          { post_processor: { type: "Sequence", processors: [{ type: "Other" }] } },
          "Unknown PostProcessor type: Other",
        ],
        [{ added_tokens: [{}] }, "is damaged or holds a tokenizer of a kind that is not supported"],
        [{ model: { ...json.model, vocab: [["a"]] } }, "the vocabulary is not a list of pieces with scores"],
        [{ model: { ...json.model, vocab: [] } }, "is damaged or holds a tokenizer of a kind that is not supported"],
      ] as const
    ) {
      await Deno.writeTextFile(path, JSON.stringify({ ...json, ...change }));
      await assertRejects(() => loadTokenizer(folder), TilereelError, message);
    }
    await Deno.writeTextFile(path, JSON.stringify(json));
    await Deno.writeTextFile(config, '{"pad_token": {"content": "[PAD]"}}');
    await assertRejects(() => loadTokenizer(folder), TilereelError, 'has no token "[PAD]" to pad with');
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
