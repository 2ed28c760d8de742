import { printable, quoted, TilereelError } from "../../gpu/common/errors.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import { type NamedSize, sizesIn } from "../../model/attention/sizes.ts";
import { elementCount } from "../../model/checkpoint/dtype.ts";
import { openCheckpoint } from "../../model/checkpoint/sharded.ts";
import { whatTensorsAre } from "../../model/checkpoint/tensor_names.ts";
import { VEDA_KEY } from "../../model/veda/veda_file.ts";
import { ROUTER_KEY } from "../../model/vorta/router_file.ts";
import { isTiny, tinySizes } from "../../model/taehv/decoder.ts";

/** A file of tensors that is no whole model. */
export interface FileDescription {
  readonly path: string;
  /** "a LoRA" */
  readonly kind: string;
  /** What it can be used for, or why not, as a sentence. */
  readonly use: string;
  readonly tensors: number;
  readonly parameters: number;
  /** Number formats, the most used first. */
  readonly dtypes: readonly string[];
  /** The bytes of all tensors. */
  readonly bytes: number;
  /** The sizes of the clips that a router or tiles were made for, if the file says it. */
  readonly sizes: readonly NamedSize[];
  /** What the file says of itself. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** What each kind of file is for, by words of what it is. */
const USES: readonly (readonly [kind: RegExp, use: string])[] = [
  [/not supported|not read/, "It does not run: use another version of it."],
  [/LoRA/, "It is added to the weights of a model by --lora FILE."],
  [/router of VORTA/, "It is for --attention vorta, by --router FILE, with the model that it was trained for."],
  [/tiles of Veda/, "It is for --attention veda, by --tiles FILE, with the model that it was trained for."],
  [/tiny autoencoder/, "It decodes clips by --vae FILE, or previews by --preview-vae FILE."],
  [/text encoder/, "It replaces a model's text encoder by --text-encoder FILE."],
  [/\bVAE\b/, "It replaces a model's VAE by --vae FILE."],
  [/image encoder/, "Models of image to video use it where it lies beside their transformer."],
  [/text embeddings/, "It takes the place of a prompt by --embeddings FILE."],
  [/latents/, "It is the noise to start from by --latents FILE."],
  [
    /(Wan|HunyuanVideo) transformer/,
    "It is a model by --model FILE if VAE and text encoder lie beside it, and replaces a model's own by --transformer FILE.",
  ],
];
const MOST_METADATA = 6;

/** "10 %" */
const percent = (share: number) => `${Number((100 * share).toPrecision(3))} %`;

/**
 * Describes a file of tensors. No tensor is read.
 *
 * @throws {TilereelError} if it is no such file, or damaged
 */
export async function describeFile(path: string): Promise<FileDescription> {
  using source = await openCheckpoint(path, "");
  const { metadata } = source;
  const infos = source.names().map((name) => source.info(name)), byDtype = new Map<string, number>();
  for (const { dtype, shape } of infos) byDtype.set(dtype, (byDtype.get(dtype) ?? 0) + elementCount(shape));
  const kind = isTiny(source)
    ? `a tiny autoencoder (TAEHV) for latents of ${tinySizes(source).zDim} channels`
    : whatTensorsAre(source);
  return {
    ...{ path, kind, tensors: infos.length, sizes: sizesIn(metadata[ROUTER_KEY] ?? metadata[VEDA_KEY]), metadata },
    use: USES.find(([words]) => words.test(kind))?.[1] ?? "No model that tilereel runs has such a part.",
    parameters: infos.reduce((sum, { shape }) => sum + elementCount(shape), 0),
    bytes: infos.reduce((sum, { bytes }) => sum + bytes, 0),
    dtypes: [...byDtype].sort(([, a], [, b]) => b - a).map(([dtype]) => dtype),
  };
}

/** The description, as `tilereel info FILE` shows it. */
export function fileText(
  { path, kind, use, tensors, parameters, dtypes, bytes, sizes, metadata }: FileDescription,
): string {
  const known = Object.entries(metadata).filter(([key]) => key !== "format").slice(0, MOST_METADATA);
  return [
    `File: ${printable(path)} is ${kind}.`,
    `  ${use}`,
    `  ${tensors} ${tensors === 1 ? "tensor" : "tensors"}, ${parameters.toLocaleString("en")} numbers as ` +
    `${dtypes.join(", ") || "nothing"}, ${formatBytes(bytes)}`,
    ...sizes.length > 0
      ? [`  for clips of ${sizes.map(({ grid }) => grid.join("x")).join(", ")} tokens; others use the nearest`]
      : [],
    ...sizes.flatMap(({ grid, denseShare = 0 }) =>
      denseShare > 0
        ? [
          `  with ${grid.join("x")} tokens, the first ${
            percent(denseShare)
          } of the steps have full attention by default`,
        ]
        : []
    ),
    ...known.map(([key, value]) => `  ${printable(key.slice(0, 40))}: ${quoted(value)}`),
  ].join("\n");
}

/** The description of a file if it is a file of tensors; otherwise the error that says what it is. */
export async function fileOrRefusal(path: string, asModel: TilereelError): Promise<FileDescription> {
  return await describeFile(path).catch((error) => {
    throw error instanceof TilereelError ? asModel : error;
  });
}
