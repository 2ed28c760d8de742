/** Models of fixtures as loose files, as ComfyUI and Wan's repositories have them. */
import { join } from "node:path";
import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import { type TensorToWrite, writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";

/** All tensors of a part, by what `name` makes of their names. */
export async function tensorsOf(
  folder: string,
  stem: string,
  name: (name: string) => string = (name) => name,
): Promise<Record<string, TensorToWrite>> {
  using source = await openCheckpoint(folder, stem);
  const tensors = source.names().map(async (stored) => {
    const { dtype, shape } = source.info(stored);
    return [name(stored), { dtype, shape, data: await source.read(stored) }] as const;
  });
  return Object.fromEntries(await Promise.all(tensors));
}

/** What a file's own metadata say where small models differ from real ones in what shapes do not show. */
export async function metadataOf(
  model: string,
  part: string,
  keys: readonly string[],
): Promise<Record<string, string>> {
  const config = JSON.parse(await Deno.readTextFile(join(model, part, "config.json")));
  return { config: JSON.stringify({ [part]: Object.fromEntries(keys.map((key) => [key, config[key]])) }) };
}

const STEMS: Readonly<Record<string, string>> = {
  text_encoder: "model",
  text_encoder_2: "model",
  image_encoder: "model",
};

/**
 * Writes a part of a model as one file.
 *
 * @param keys of its `config.json` that go into the file's metadata
 * @param more further tensors
 */
export async function writeLoose(
  model: string,
  part: string,
  file: string,
  { name, keys = [], more = {} }: {
    readonly name?: (name: string) => string;
    readonly keys?: readonly string[];
    readonly more?: Record<string, TensorToWrite>;
  } = {},
): Promise<void> {
  const stem = STEMS[part] ?? "diffusion_pytorch_model", kind = part.replace("transformer_2", "transformer");
  const tensors = await tensorsOf(join(model, part), stem, name);
  await Deno.mkdir(join(file, ".."), { recursive: true });
  await writeSafetensors(file, { ...tensors, ...more }, keys.length > 0 ? await metadataOf(model, kind, keys) : {});
}

/** A SentencePiece model with the pieces of a `tokenizer.json`, as the tensor that ComfyUI's text encoders have. */
export async function spieceTensor(tokenizer: string): Promise<TensorToWrite> {
  const { model, added_tokens: added } = JSON.parse(await Deno.readTextFile(tokenizer));
  const bytes: number[] = [];
  const special = new Set((added as { content: string }[]).map(({ content }) => content));
  for (const [piece, score] of model.vocab as [string, number][]) {
    const text = new TextEncoder().encode(piece), number = new Uint8Array(Float32Array.of(score).buffer);
    const type = piece === "<unk>" ? 2 : special.has(piece) ? 3 : 1;
    const message = [0x0a, text.length, ...text, 0x15, ...number, 0x18, type];
    bytes.push(0x0a, message.length, ...message);
  }
  // A trainer's description: Unigram, and the number of the unknown piece.
  bytes.push(0x12, 5, 0x18, 1, 0xc0, 2, model.unk_id);
  return { dtype: "U8", shape: [bytes.length], data: Uint8Array.from(bytes) };
}
