/**
 * Files of LoRAs, in the layouts of diffusers (PEFT), ComfyUI, lightx2v and Kohya. They differ in their names: those of
 * layers are the family's to know, and those of the tensors of a layer are known here.
 *
 * @module
 */
import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { elementCount } from "../checkpoint/dtype.ts";
import { namedRows, type Rows } from "../checkpoint/named_rows.ts";
import { parseJsonObject } from "../checkpoint/json.ts";
import { openSafetensors } from "../checkpoint/safetensors.ts";
import { otherUpdate } from "../checkpoint/tensor_names.ts";
import { readFloat32, type TensorSource } from "../checkpoint/tensor_source.ts";
import type { Family } from "../family.ts";
import { baseName, type StoredFile } from "../files/store.ts";

/** The factors of an update: α/r · up · down. */
export interface LowRank {
  /** [out, rank] */
  readonly up: Float32Array;
  /** [rank, in] */
  readonly down: Float32Array;
  readonly rank: number;
  /** α/r; 1 where the file has no α. */
  readonly scale: number;
  /** Of the weight: [out, in]. */
  readonly shape: readonly [number, number];
}

/** What is added to one weight: factors, or an update as a whole. */
export type LoraUpdate = LowRank | { readonly data: Float32Array; readonly shape: readonly number[] };

/** A kind of update: what it has for a layer. */
interface UpdateKind {
  /** The tensors that it consists of, by what they are: the endings of their names behind the layer's. */
  readonly tensors: Readonly<Record<string, RegExp>>;
  /** Those that may be absent. */
  readonly optional?: readonly string[];
  /** What of the layer it changes. */
  readonly changes: "weight" | "bias";
  /**
   * @param stored the names of its tensors
   * @param part of the model
   */
  read(source: TensorSource, stored: Readonly<Record<string, string>>, part: string): Promise<LoraUpdate>;
}

const KINDS: readonly UpdateKind[] = [
  {
    tensors: {
      down: /\.(?:lora_A(?:\.default)?|lora_down|lora\.down)\.weight$/,
      up: /\.(?:lora_B(?:\.default)?|lora_up|lora\.up)\.weight$/,
      alpha: /\.alpha$/,
    },
    optional: ["alpha"],
    changes: "weight",
    read: readFactors,
  },
  { tensors: { diff: /\.diff$/ }, changes: "weight", read: readWhole },
  { tensors: { diff: /\.diff_b$/ }, changes: "bias", read: readWhole },
];

/** What the keys of text encoders begin with, as diffusers and Kohya have them: `text_encoder_2.`, `lora_te2_`. */
const TEXT_ENCODER = /^(?:text_encoder(?:_(\d+))?\.|lora_te(\d*)_)/;

/** The part of a model that a key is for, and the key without what says so. All others are the transformer's. */
function partOf(stored: string): readonly [part: string, key: string] {
  const [prefix, ...numbers] = TEXT_ENCODER.exec(stored) ?? [], number = numbers.find((number) => number) ?? "1";
  if (prefix === undefined) return ["transformer", stored];
  return [`text_encoder${number === "1" ? "" : `_${number}`}`, stored.slice(prefix.length)];
}

/**
 * The transformers that a LoRA is for. Where a model has one for high and one for low noise, files come in pairs, whose
 * names say which they are for. One whose name does not say it is for both.
 */
function expertsOf(path: string, { parts }: Pick<Family, "parts">): readonly string[] {
  if (!parts.transformer_2) return ["transformer"];
  const name = baseName(path), [high, low] = [/high[-_ ]?noise/i, /low[-_ ]?noise/i].map((mark) => mark.test(name));
  if (high === low) return ["transformer", "transformer_2"];
  return [high ? "transformer" : "transformer_2"];
}

/** Updates by the family's names of weights: `blocks.0.attn1.to_q.weight`. What one weight has several times adds up. */
export type LoraUpdates = ReadonlyMap<string, readonly LoraUpdate[]>;

/**
 * Reads all updates of a LoRA.
 *
 * @returns those of each part of the model
 * @throws {TilereelError} if it cannot be read, or has something that no update consists of, or that the family does not
 * have
 */
export async function readLora(
  file: string | StoredFile,
  family: Pick<Family, "name" | "parts">,
): Promise<ReadonlyMap<string, LoraUpdates>> {
  using source = await openSafetensors(file, "a LoRA in safetensors");
  const endings = KINDS.flatMap(({ tensors }) => Object.values(tensors));
  const layers = Map.groupBy(source.names(), (stored) => {
    const ending = endings.find((ending) => ending.test(stored)) ?? noUpdate(source, stored);
    return stored.replace(ending, "");
  });
  const updates = new Map<string, Map<string, LoraUpdate[]>>();
  for (const [layer, stored] of layers) {
    const [part, key] = partOf(layer), weights = family.parts[part]?.weights;
    if (!weights) {
      throw new TilereelError(
        `${source.path} changes ${part}, which models of ${family.name} do not have; use a LoRA that was made for them`,
      );
    }
    const left = new Set(stored), ofPart = updates.get(part) ?? updates.set(part, new Map()).get(part)!;
    for (const { tensors, optional = [], changes, read } of KINDS) {
      const own: Record<string, string> = {};
      for (const [what, ending] of Object.entries(tensors)) {
        const [name, other] = stored.filter((name) => ending.test(name));
        if (other !== undefined) throw damaged(source, name!, `${quoted(other)} is the same`);
        if (name !== undefined) own[what] = name;
      }
      const needed = Object.keys(tensors).filter((what) => !optional.includes(what));
      if (!needed.some((what) => what in own)) continue;
      for (const name of Object.values(own)) left.delete(name);
      const missing = needed.find((what) => !(what in own));
      if (missing !== undefined) throw damaged(source, Object.values(own)[0]!, "not both factors of that layer");
      const update = await read(source, own, part), named = { name: `${key}.${changes}`, shape: update.shape };
      for (const { name, rows } of namedRows(weights.names ?? ((name) => name), { ...named, file: source.path })) {
        ofPart.set(name, [...ofPart.get(name) ?? [], rows ? rowsOf(update, rows) : update]);
      }
    }
    const [stray] = left;
    if (stray !== undefined) throw damaged(source, stray, "not both factors of that layer");
  }
  if (updates.size === 0) throw new TilereelError(`${source.path} is empty, but a LoRA was expected`);
  const ofTransformer = updates.get("transformer"), experts = expertsOf(source.path, family);
  if (ofTransformer && !experts.includes("transformer")) updates.delete("transformer");
  if (ofTransformer) { for (const part of experts) updates.set(part, ofTransformer); }
  return updates;
}

function damaged({ path }: TensorSource, stored: string, what: string): TilereelError {
  return new TilereelError(`${path} has ${quoted(stored)}, but ${what}: it is damaged; download it again`);
}

/** What is added to some rows of the weight. */
function rowsOf(update: LoraUpdate, { start, count }: Rows): LoraUpdate {
  const [all = 1, ...others] = update.shape,
    cut = (data: Float32Array) => {
      const row = data.length / all;
      return data.subarray(start * row, (start + count) * row);
    };
  if ("up" in update) return { ...update, up: cut(update.up), shape: [count, update.shape[1]] };
  return { data: cut(update.data), shape: [count, ...others] };
}

async function readWhole(source: TensorSource, { diff }: Readonly<Record<string, string>>): Promise<LoraUpdate> {
  return { data: await readFloat32(source, diff!), shape: source.info(diff!).shape };
}

async function readFactors(
  source: TensorSource,
  { down = "", up = "", alpha }: Readonly<Record<string, string>>,
  part: string,
): Promise<LowRank> {
  const a = source.info(down).shape, b = source.info(up).shape, rank = a[0]!;
  const inner = elementCount(a.slice(1));
  if (a.length < 2 || b.length < 2 || elementCount(b.slice(1)) !== rank) {
    throw new TilereelError(
      `${source.path}: ${quoted(up)} is [${b}] and ${
        quoted(down)
      } [${a}], but [out, rank] and [rank, in] were expected`,
    );
  }
  const scale = alpha === undefined
    ? alphaOfMetadata(source, part) ?? 1
    : (await readFloat32(source, alpha))[0]! / rank;
  return {
    up: await readFloat32(source, up),
    down: await readFloat32(source, down),
    rank,
    scale,
    shape: [b[0]!, inner],
  };
}

/** α/r as PEFT's metadata have them, if diffusers wrote any. */
function alphaOfMetadata({ metadata }: TensorSource, part: string): number | undefined {
  const said = parseJsonObject(metadata["lora_adapter_metadata"] ?? "") ?? {};
  const { [`${part}.lora_alpha`]: alpha, [`${part}.r`]: rank } = said;
  return typeof alpha === "number" && typeof rank === "number" && rank > 0 ? alpha / rank : undefined;
}

function noUpdate({ path }: TensorSource, stored: string): never {
  const other = otherUpdate(stored);
  throw new TilereelError(
    other === undefined
      ? `${path} has ${quoted(stored)}, but a LoRA has names that end in lora_A.weight, lora_up.weight, alpha or diff`
      : `${path} is a ${other}, which is not supported: use a LoRA, or merge it into the model with another program`,
  );
}
