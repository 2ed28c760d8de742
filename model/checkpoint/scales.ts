import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { elementCount } from "./dtype.ts";
import type { NamedTensors } from "./tensor_names.ts";

/** What a scale's name has in place of the matrix's `.weight`: in ComfyUI's scaled fp8, and in most others. */
const SCALE_SUFFIXES = [".scale_weight", ".weight_scale"];
/** That of matrices in int8 as `tilereel convert` writes them. Those of other programs have other numbers. */
export const TURNED_SUFFIX = ".turned_scale";

/** Scales of other kinds: of blocks, of two levels, and bitsandbytes' codes. Without them, their matrices are wrong. */
const OTHER_SCALES = /\.(weight_scale_inv|weight_scale_2|weight_zero_point|weight\.(absmax|quant_map|nested_\w+))$/;

/** Marks and the scales of activations, which are beside such matrices and not needed. */
const UNUSED = /(^|\.)(scaled_fp8|scale_input|input_scale|comfy_quant)$/;

/** The `quant_method`s of configurations whose tensors have these names. The tensors show whether they can be read. */
export const SCALE_METHODS: readonly unknown[] = ["compressed-tensors", "fbgemm_fp8"];

/**
 * Finds the scales of matrices by their names in the file. A scale is one number for the whole matrix or one for each
 * of its rows, by which the numbers of the matrix are multiplied.
 *
 * @returns the names of scales by those of their matrices, those matrices that are in tilereel's int8, and the names of
 * the tensors that are left
 * @throws {TilereelError} if a scale does not fit its matrix
 */
export function pairScales(source: NamedTensors) {
  const scales = new Map<string, string>(), turned = new Set<string>();
  const names = source.names().filter((name) => {
    if (UNUSED.test(name)) return false;
    if (OTHER_SCALES.test(name)) {
      throw new TilereelError(
        `${source.info(name).file} is quantised in a way that is not read, because it has the tensor ${
          quoted(name)
        }; use a ` +
          "version of the model in bf16, fp8 with one scale for each matrix or row, or GGUF",
      );
    }
    const suffix = [...SCALE_SUFFIXES, TURNED_SUFFIX].find((suffix) => name.endsWith(suffix));
    const matrix = suffix && `${name.slice(0, -suffix.length)}.weight`;
    if (!matrix || !source.has(matrix)) return true;
    const { shape, file, dtype } = source.info(matrix), scale = source.info(name), isTurned = suffix === TURNED_SUFFIX;
    if ((dtype === "I8") !== isTurned) {
      throw new TilereelError(
        `"${matrix}" in ${file} is stored as ${dtype} with the scale "${name}", which is not read; use a version of the ` +
          "model in another format",
      );
    }
    if (shape.length < 2 || ![1, shape[0]].includes(elementCount(scale.shape))) {
      throw new TilereelError(
        `the scale ${quoted(name)} in ${file} has the shape [${
          scale.shape.join(", ")
        }], but one number or one for each row ` +
          `of [${shape.join(", ")}] was expected; use a version of the model that has such scales or none`,
      );
    }
    scales.set(matrix, name);
    if (isTurned) turned.add(matrix);
    return false;
  });
  return { names, scales, turned };
}
