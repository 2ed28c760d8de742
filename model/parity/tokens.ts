import { TilereelError } from "../../gpu/common/errors.ts";
import { openModelFolder } from "../checkpoint/model_folder.ts";
import { loadTokenizer } from "../tokenizer/tokenizer.ts";
import type { Check, ParityCase } from "./case.ts";

/** `tokens.json`: texts and the ids that transformers makes of them. */
export const tokens: ParityCase = {
  matches: /^tokens\.json$/,
  async *run(path, { model }): AsyncIterable<Check> {
    const tokenizer = await loadTokenizer(await (await openModelFolder(model)).component("tokenizer"));
    const texts = await readTexts(path);
    const differing = texts.filter(({ text, ids }) => {
      const encoded = tokenizer.encode(text, 512);
      return encoded.ids.subarray(0, encoded.length).join() !== ids.join();
    });
    yield { name: "tokens", value: differing.length, unit: "differing", bound: 0 };
  },
};

/** A text, and its ids without padding. */
interface Tokenized {
  readonly text: string;
  readonly ids: readonly number[];
}

/** @throws {TilereelError} if the file holds something else, or nothing */
async function readTexts(path: string): Promise<readonly Tokenized[]> {
  let texts: unknown;
  try {
    texts = JSON.parse(await Deno.readTextFile(path));
  } catch (error) {
    throw new TilereelError(`${path} is not JSON: ${(error as Error).message}`, { cause: error });
  }
  if (Array.isArray(texts) && texts.length > 0 && texts.every(isTokenized)) return texts;
  throw new TilereelError(`${path} holds no tokens: a list such as [{"text": "a ball", "ids": [289, 1]}] was expected`);
}

function isTokenized(entry: Partial<Tokenized> | null): entry is Tokenized {
  return typeof entry?.text === "string" && Array.isArray(entry.ids);
}
