import { TilereelError } from "../../gpu/common/errors.ts";
import { readJsonObject } from "../checkpoint/json.ts";
import { readBytes, type StoredFile } from "../files/store.ts";

/** CLIP's have half a MiB. */
const LARGEST_MERGES = 2 ** 22;

const START = "<|startoftext|>", END = "<|endoftext|>";

/**
 * Reads CLIP's `vocab.json` and `merges.txt`, which folders of diffusers hold without a `tokenizer.json`.
 *
 * @returns the `tokenizer.json` that transformers' converter makes of them
 * @throws {TilereelError} if a file is missing or damaged, or the vocabulary is not CLIP's
 */
export async function readClipVocabulary(vocabulary: StoredFile, merges: StoredFile): Promise<object> {
  const vocab = await readJsonObject(vocabulary), { [START]: start, [END]: end } = vocab;
  if (typeof start !== "number" || typeof end !== "number") {
    throw new TilereelError(`${vocabulary.path} has no tokens ${START} and ${END}, but CLIP's vocabulary was expected`);
  }
  // The first line names a version.
  const [, ...pairs] = new TextDecoder().decode(await readBytes(merges, "CLIP's merges", LARGEST_MERGES)).trim().split(
    /\r?\n/,
  );
  return {
    added_tokens: [
      { id: start, content: START, special: true },
      { id: end, content: END, special: true },
    ],
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "NFC" },
        { type: "Replace", pattern: { Regex: "\\s+" }, content: " " },
        { type: "Lowercase" },
      ],
    },
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        {
          type: "Split",
          pattern: { Regex: "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+" },
          behavior: "Removed",
          invert: true,
        },
        { type: "ByteLevel", use_regex: true },
      ],
    },
    model: { type: "BPE", vocab, merges: pairs, unk_token: END, end_of_word_suffix: "</w>" },
    post_processor: { type: "RobertaProcessing", cls: [START, start], sep: [END, end] },
    decoder: null,
  };
}
