import { prefixesOf } from "../attention/layout.ts";
import { type TensorToWrite, writeSafetensors } from "../checkpoint/write_safetensors.ts";
import { NO_TERMS } from "./scorer.ts";
import { projectionName, VEDA_KEY, type VedaFile } from "./veda_file.ts";

/**
 * Writes a scorer, the shapes of tiles, or both, as safetensors: a file that appears only when it is complete.
 *
 * @param metadata additional metadata
 * @param more additional tensors, for checkpoints
 * @throws {TilereelError} if it cannot be written
 */
export async function saveVeda(
  path: string,
  { tileTokens, scorer, shapes: all, target, keep }: VedaFile,
  metadata: Readonly<Record<string, string>> = {},
  more: Readonly<Record<string, TensorToWrite>> = {},
): Promise<void> {
  const tensors: Record<string, TensorToWrite> = { ...more };
  if (scorer) {
    const { layers, layerPrefixes, heads, headDim } = scorer;
    for (const [layer, prefix] of prefixesOf({ layers: layers.length, layerPrefixes }).entries()) {
      for (const side of ["q", "k"] as const) {
        tensors[projectionName(prefix, side)] = { ...layers[layer]![side], shape: [heads, 3 * headDim, headDim] };
      }
    }
  }
  if (all) {
    const { shapes, choices } = all, heads = choices[0]!.length;
    tensors["tiles.shapes"] = { dtype: "I32", shape: [shapes.length, 3], data: Int32Array.from(shapes.flat()) };
    tensors["tiles.choices"] = {
      dtype: "U8",
      shape: [choices.length, heads],
      data: Uint8Array.from(choices.flatMap((choice) => [...choice])),
    };
  }
  const { count, second } = scorer?.terms ?? NO_TERMS;
  const known = {
    tile_tokens: tileTokens,
    ...target && { target },
    ...count && { count },
    ...second && { second_order: second },
    ...keep !== undefined && { keep },
  };
  await writeSafetensors(path, tensors, { ...metadata, [VEDA_KEY]: JSON.stringify(known) });
}
