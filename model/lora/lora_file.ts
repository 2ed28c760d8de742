/**
 * Files of LoRAs, in the layouts of diffusers (PEFT), ComfyUI, lightx2v and Kohya. They differ in their names: those of
 * layers are the family's to know, and those of the tensors of a layer are known here.
 *
 * @module
 */
import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { namedRows } from "../checkpoint/named_rows.ts";
import { openSafetensors } from "../checkpoint/safetensors.ts";
import { readFloat32, type TensorSource } from "../checkpoint/tensor_source.ts";
import type { PartWeights } from "../family.ts";
import type { StoredFile } from "../files/store.ts";

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

/** What is added to one weight: factors, and an update as a whole. */
export interface LoraUpdate {
  factors?: LowRank;
  whole?: { readonly data: Float32Array; readonly shape: readonly number[] };
}

/** The endings of names behind that of a layer, by what they are. */
const ENDINGS = [
  ["down", /\.(?:lora_A(?:\.default)?|lora_down|lora\.down)\.weight$/],
  ["up", /\.(?:lora_B(?:\.default)?|lora_up|lora\.up)\.weight$/],
  ["alpha", /\.alpha$/],
  ["diff", /\.diff$/],
  ["diff_b", /\.diff_b$/],
] as const;

/** What a name is that is none of these. */
const OTHERS: readonly (readonly [RegExp, string])[] = [
  [/\.hada_/, "LoHa"],
  [/\.lokr_/, "LoKr"],
  [/\.dora_scale$|\.lora_magnitude_vector/, "DoRA"],
  [/\.oft_|\.boft_/, "OFT"],
];

/**
 * Reads all updates of a LoRA.
 *
 * @param names as in {@link PartWeights.names}
 * @returns by the family's names of weights: `blocks.0.attn1.to_q.weight`
 * @throws {TilereelError} if it cannot be read, or has something that no update consists of
 */
export async function readLora(
  file: string | StoredFile,
  names: NonNullable<PartWeights["names"]>,
): Promise<ReadonlyMap<string, LoraUpdate>> {
  using source = await openSafetensors(file, "a LoRA in safetensors");
  /** The stored names of each layer's tensors. */
  const layers = new Map<string, Partial<Record<typeof ENDINGS[number][0], string>>>();
  for (const stored of source.names()) {
    const [kind, ending] = ENDINGS.find(([, ending]) => ending.test(stored)) ?? noUpdate(source, stored);
    const layer = stored.replace(ending, "");
    layers.set(layer, { ...layers.get(layer), [kind]: stored });
  }
  const updates = new Map<string, LoraUpdate>();
  const update = (name: string) => updates.get(name) ?? updates.set(name, {}).get(name)!;
  for (const [layer, { down, up, alpha, diff, diff_b }] of layers) {
    /** The weights that a tensor with rows of the layer's outputs is for, by the family's names. */
    const weights = (name: string, of: string) =>
      namedRows(names, { name, shape: source.info(of).shape, file: source.path });
    const addWhole = async (name: string, stored: string) => {
      const data = await readFloat32(source, stored), { shape: [all = 1, ...others] } = source.info(stored);
      for (const { name: weight, rows: { start, count } = { start: 0, count: all } } of weights(name, stored)) {
        const row = data.length / all, part = data.subarray(start * row, (start + count) * row);
        // Tables of modulation are weights without a layer.
        update(weight.replace(/_table\.weight$/, "_table")).whole = { data: part, shape: [count, ...others] };
      }
    };
    if (down !== undefined && up !== undefined) {
      const factors = await readFactors(source, down, up, alpha), { rank, shape: [all, inputs] } = factors;
      for (const { name, rows: { start, count } = { start: 0, count: all } } of weights(`${layer}.weight`, up)) {
        const part = factors.up.subarray(start * rank, (start + count) * rank);
        update(name).factors = { ...factors, up: part, shape: [count, inputs] };
      }
    } else if (down ?? up ?? alpha) {
      throw new TilereelError(
        `${source.path} has ${quoted((down ?? up ?? alpha)!)}, but not both factors of that layer: it is damaged; ` +
          `download it again`,
      );
    }
    if (diff !== undefined) await addWhole(`${layer}.weight`, diff);
    if (diff_b !== undefined) await addWhole(`${layer}.bias`, diff_b);
  }
  if (updates.size === 0) throw new TilereelError(`${source.path} is empty, but a LoRA was expected`);
  return updates;
}

async function readFactors(source: TensorSource, down: string, up: string, alpha?: string): Promise<LowRank> {
  const a = source.info(down).shape, b = source.info(up).shape, rank = a[0]!;
  const inner = a.slice(1).reduce((x, y) => x * y, 1);
  if (a.length < 2 || b.length < 2 || b.slice(1).reduce((x, y) => x * y, 1) !== rank) {
    throw new TilereelError(
      `${source.path}: ${quoted(up)} is [${b}] and ${
        quoted(down)
      } [${a}], but [out, rank] and [rank, in] were expected`,
    );
  }
  const scale = alpha === undefined ? alphaOfMetadata(source) ?? 1 : (await readFloat32(source, alpha))[0]! / rank;
  return {
    up: await readFloat32(source, up),
    down: await readFloat32(source, down),
    rank,
    scale,
    shape: [b[0]!, inner],
  };
}

/** α/r as PEFT's metadata have them, if diffusers wrote any. */
function alphaOfMetadata({ metadata }: TensorSource): number | undefined {
  try {
    const said = JSON.parse(metadata["lora_adapter_metadata"] ?? "null");
    const { "transformer.lora_alpha": alpha, "transformer.r": rank } = said ?? {};
    return typeof alpha === "number" && typeof rank === "number" && rank > 0 ? alpha / rank : undefined;
  } catch {
    return undefined;
  }
}

function noUpdate({ path }: TensorSource, stored: string): never {
  const other = OTHERS.find(([name]) => name.test(stored))?.[1];
  throw new TilereelError(
    other === undefined
      ? `${path} has ${quoted(stored)}, but a LoRA has names that end in lora_A.weight, lora_up.weight, alpha or diff`
      : `${path} is a ${other}, which is not supported: use a LoRA, or merge it into the model with another program`,
  );
}
