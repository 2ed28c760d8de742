/**
 * `tokens.json`: texts and the ids that transformers makes of them.
 *
 * @module
 */
import { openModelFolder } from "../checkpoint/model_folder.ts";
import { loadTokenizer } from "../tokenizer/tokenizer.ts";
import type { Check, ParityCase } from "./case.ts";

/** Token ids are equal. */
export const tokens: ParityCase = {
  matches: /^tokens\.json$/,
  async *run(path, { model }): AsyncIterable<Check> {
    const tokenizer = await loadTokenizer(await (await openModelFolder(model)).component("tokenizer"));
    const texts = JSON.parse(await Deno.readTextFile(path)) as { text: string; ids: number[] }[];
    const differing = texts.filter(({ text, ids }) => {
      const encoded = tokenizer.encode(text, 512);
      return encoded.ids.subarray(0, encoded.length).join() !== ids.join();
    });
    yield { name: "tokens", value: differing.length, unit: "differing", bound: 0 };
  },
};
