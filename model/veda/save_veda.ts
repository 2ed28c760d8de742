import { prefixesOf } from "../attention/layout.ts";
import { type TensorToWrite, writeSafetensors } from "../checkpoint/write_safetensors.ts";
import { NO_TERMS } from "./scorer.ts";
import { othersPrefix } from "../attention/sizes.ts";
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
  { others = [], ...file }: VedaFile,
  metadata: Readonly<Record<string, string>> = {},
  more: Readonly<Record<string, TensorToWrite>> = {},
): Promise<void> {
  const tensors = { ...more, ...tensorsOf(file) };
  for (const [i, other] of others.entries()) {
    for (const [name, tensor] of Object.entries(tensorsOf(other))) tensors[othersPrefix(i) + name] = tensor;
  }
  const known = { ...settingsOf(file), ...others.length > 0 && { others: others.map(settingsOf) } };
  await writeSafetensors(path, tensors, { ...metadata, [VEDA_KEY]: JSON.stringify(known) });
}

function tensorsOf({ scorer, shapes: all }: VedaFile): Record<string, TensorToWrite> {
  const tensors: Record<string, TensorToWrite> = {};
  if (scorer) {
    const { layers, layerPrefixes, heads, headDim } = scorer;
    for (const [layer, prefix] of prefixesOf({ layers: layers.length, layerPrefixes }).entries()) {
      for (const side of ["q", "k"] as const) {
        tensors[projectionName(prefix, side)] = { ...layers[layer]![side], shape: [heads, 3 * headDim, headDim] };
      }
    }
  }
  if (all) {
    const { shapes, choices, budgets } = all, shape = [choices.length, choices[0]!.length];
    tensors["tiles.shapes"] = { dtype: "I32", shape: [shapes.length, 3], data: Int32Array.from(shapes.flat()) };
    tensors["tiles.choices"] = { dtype: "U8", shape, data: Uint8Array.from(choices.flatMap((choice) => [...choice])) };
    if (budgets) {
      tensors["tiles.budgets"] = { dtype: "F32", shape, data: Float32Array.from(budgets.flatMap((row) => [...row])) };
    }
  }
  return tensors;
}

function settingsOf({ tileTokens, scorer, target, keep, grid }: VedaFile): Readonly<Record<string, unknown>> {
  const { count, second } = scorer?.terms ?? NO_TERMS;
  return {
    tile_tokens: tileTokens,
    ...target && { target },
    ...count && { count },
    ...second && { second_order: second },
    ...keep !== undefined && { keep },
    ...grid && { grid },
  };
}
