import { loadTokenizer } from "../model/tokenizer/tokenizer.ts";
import { TilereelError } from "../errors.ts";
import { assertEquals, assertRejects } from "@std/assert";

const DEMO = new URL("../model/demo/tokenizer", import.meta.url).pathname;

async function fixture(): Promise<{ text: string; ids: number[] }[]> {
  return JSON.parse(await Deno.readTextFile(new URL("./fixtures/tokens.json", import.meta.url)));
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
    for (const text of ["{}", '{"model": {"type": "Unigram"}}', '{"model": {"type": "Nothing"}}', "[1]"]) {
      await Deno.writeTextFile(path, text);
      await assertRejects(() => loadTokenizer(folder), TilereelError, path);
    }
    const json = JSON.parse(await Deno.readTextFile(`${DEMO}/tokenizer.json`));
    await Deno.writeTextFile(path, JSON.stringify({ ...json, post_processor: null }));
    await assertRejects(() => loadTokenizer(folder), TilereelError, "does not end a text with an end token");
    await Deno.writeTextFile(path, JSON.stringify(json));
    await Deno.writeTextFile(config, '{"pad_token": {"content": "[PAD]"}}');
    await assertRejects(() => loadTokenizer(folder), TilereelError, 'has no token "[PAD]" to pad with');
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
