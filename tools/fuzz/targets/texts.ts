import { command } from "../../../cli/commands/generate.ts";
import { memoryFolder } from "../../../model/files/memory.ts";
import { loadTokenizer, type Tokenizer } from "../../../model/tokenizer/tokenizer.ts";
import { fixText } from "../../../model/tokenizer/fix_text.ts";
import { cleanPrompt } from "../../../model/wan/prompt.ts";
import { batchOptions } from "../../program/clip/batch_options.ts";
import { parsePrompts } from "../../program/clip/prompts.ts";
import { parseCommand } from "../../program/parse.ts";
import type { Dice } from "../dice.ts";
import { fixture, fixtureFolder } from "../fixtures.ts";
import { mutateBytes } from "../mutate_bytes.ts";
import { mutateJson } from "../mutate_json.ts";
import type { FuzzTarget } from "../target.ts";

const TEXTS = [
  "a big red circle moving right on a black background",
  "  don't   STOP\n\n\tnow… 中文字 Ünïcödé ﬁ ﷽ 👩‍👩‍👧 &amp;&#x41; <b>",
  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!",
];

const bytesOf = (text: string) => new TextEncoder().encode(text);

function use(tokenizer: Tokenizer): void {
  for (const text of [...TEXTS, ""]) tokenizer.encode(text, 16);
  tokenizer.unknownWords(TEXTS[1]!);
}

/** The files of a tokenizer, with those of JSON parsed. */
async function tokenizersOf(): Promise<Record<string, Uint8Array<ArrayBuffer>>[]> {
  const hunyuan = ["tokenizer", "tokenizer_2"].map((name) => `tests/fixtures/tiny_hunyuan_pipeline/${name}`);
  return await Promise.all(["model/demo/tokenizer", ...hunyuan].map(fixtureFolder));
}

/** The demo model's tokenizer with another description. */
async function described(change: (description: Record<string, unknown>) => void, text = TEXTS[2]!): Promise<void> {
  const files = await fixtureFolder("model/demo/tokenizer");
  const description = JSON.parse(new TextDecoder().decode(files["tokenizer.json"]));
  change(description);
  const changed = { ...files, "tokenizer.json": bytesOf(JSON.stringify(description)) };
  (await loadTokenizer(memoryFolder(changed))).encode(text, 16);
}

export const tokenizer: FuzzTarget = {
  reads: "tokenizers",
  open: async () => {
    const all = await tokenizersOf();
    return async (dice) => {
      const files = { ...dice.of(all) }, name = dice.of(Object.keys(files).filter((name) => name.endsWith(".json")));
      files[name] = bytesOf(mutateJson(JSON.parse(new TextDecoder().decode(files[name])), dice));
      use(await loadTokenizer(memoryFolder(files)));
    };
  },
  extremes: {
    "a post-processor of a number": () =>
      described((of) => of.post_processor = { type: "TemplateProcessing", single: [0] }),
    "a regular expression that matches for ever": () =>
      described((of) => of.normalizer = { type: "Replace", pattern: { Regex: "(a+)+$" }, content: "" }),
    "a regular expression of alternatives that matches for ever": () =>
      described((of) => of.pre_tokenizer = { type: "Split", pattern: { Regex: "(a|a)*$" }, behavior: "Isolated" }),
    "a pattern that is missing": () => described((of) => of.pre_tokenizer = { type: "Split", behavior: "Isolated" }),
    "a pattern of a number": () =>
      described((of) => of.normalizer = { type: "Replace", pattern: { Regex: 2 }, content: "" }),
    "an added token with the number 2^31": () =>
      described((of) => (of.added_tokens as { id: number }[])[2]!.id = 2 ** 31),
    "a token with the number 2^31": () =>
      described((of) => of.model = { type: "BPE", vocab: { a: 0, b: 2 ** 31 }, merges: [] }),
    "a prompt of a million characters": () => described(() => {}, "a ".repeat(5e5)),
    "a tokenizer.json of 400 MB": () =>
      loadTokenizer(
        memoryFolder({ "tokenizer.json": new Uint8Array(4e8).fill(0x20), "tokenizer_config.json": bytesOf("{}") }),
      ),
    "20 million lists in a tokenizer.json": () =>
      loadTokenizer(
        memoryFolder({
          "tokenizer.json": bytesOf(`{"a":[${"[],".repeat(2e7)}[]]}`),
          "tokenizer_config.json": bytesOf("{}"),
        }),
      ),
  },
};

export const spiece: FuzzTarget = {
  reads: "tokenizers as SentencePiece models",
  open: async () => {
    const gz = await fixture("tests/fixtures/unigram/spiece.model.gz");
    const whole = new Response(new Blob([gz]).stream().pipeThrough(new DecompressionStream("gzip")));
    const model = new Uint8Array(await whole.arrayBuffer());
    return async (dice) => {
      const files = { "spiece.model": mutateBytes(model, dice), "tokenizer_config.json": bytesOf("{}") };
      use(await loadTokenizer(memoryFolder(files)));
    };
  },
};

/** Text with changes in its bytes, as a file in UTF-8 would be read. */
const mutatedText = (text: string, dice: Dice) => new TextDecoder().decode(mutateBytes(bytesOf(text), dice));

export const prompts: FuzzTarget = {
  reads: "prompts files, and prompts",
  open: () => {
    const line = { prompt: "a cat", seed: 7, size: "832x480", frames: 81, attention: "veda", keep: 0.3, out: "a.mp4" };
    return Promise.resolve((dice) => {
      const name = dice.of(["a.txt", "a.jsonl"]), first = name === "a.txt" ? [dice.of(TEXTS)] : [];
      const lines = [...first, dice.once(3) ? mutatedText(JSON.stringify(line), dice) : mutateJson(line, dice)];
      for (const { prompt } of parsePrompts(lines.join("\n"), name, batchOptions)) {
        cleanPrompt(prompt);
      }
      fixText(mutatedText(dice.of(TEXTS), dice));
      return Promise.resolve();
    });
  },
  extremes: {
    "a line nested 100,000 deep": () =>
      Promise.resolve(parsePrompts(`{"prompt": "a", "size": ${"[".repeat(1e5)}`, "a.txt", batchOptions)),
    "a key that moves the cursor": () =>
      Promise.resolve(parsePrompts('{"\\u001b[2J\\u0007": 1}', "a.txt", batchOptions)),
    "a key of a megabyte": () => Promise.resolve(parsePrompts(`{"${"x".repeat(1e6)}": 1}`, "a.txt", batchOptions)),
    "a value of a megabyte": () =>
      Promise.resolve(parsePrompts(`{"prompt": "a", "size": "${"x".repeat(1e6)}"}`, "a.txt", batchOptions)),
  },
};

export const commands: FuzzTarget = {
  reads: "command lines",
  open: () => {
    const names = Object.keys(command.options);
    const values = [
      "",
      "1",
      "-1",
      "0.5",
      "1e999",
      "832x480",
      "a",
      "veda",
      "2GiB",
      "1,0.5",
      "NaN",
      "\u001b[2J",
      "x".repeat(5000),
    ];
    return Promise.resolve((dice) => {
      const args = Array.from({ length: 1 + dice.below(8) }, () => {
        const name = dice.of(names), spelt = dice.once(5) ? mutatedText(name, dice) : name, value = dice.of(values);
        return dice.of([`--${spelt}`, `--${spelt}=${value}`, value, `-${spelt.slice(0, 1)}`, `--no-${spelt}`]);
      });
      return Promise.resolve(parseCommand(args, command.options, "tilereel generate"));
    });
  },
};
