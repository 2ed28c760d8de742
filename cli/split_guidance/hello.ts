/**
 * What an assistant says of itself first. Where it would not compute the same bytes, it is refused.
 *
 * @module
 */
import config from "../../deno.json" with { type: "json" };
import { quotedValue } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { CONV3D } from "../../gpu/ops/conv3d.ts";
import { kernelsInUse } from "../../gpu/tuning/in_use.ts";
import { modelIdentity } from "../../model/identity/model_identity.ts";
import { type ModelValues, openNamedFolder, variantOf } from "../../tools/program/model_options.ts";

/** Everything but attention and step cache that changes the bytes of a pass. */
export interface Hello {
  /** The version of tilereel. */
  readonly tilereel: string;
  readonly family: string;
  /** Of the transformers, with LoRAs; see `modelIdentity`. */
  readonly model: Readonly<Record<string, unknown>>;
  readonly precision: string;
  /** The kind of kernels, and the variant of each family. */
  readonly kernels: Readonly<Record<string, string>>;
  /** The name of the adapter, and where it comes from. */
  readonly adapter: string;
}

/** What the options' model is, as far as it concerns a pass. */
export async function identityOf(values: ModelValues): Promise<Pick<Hello, "family" | "model">> {
  const folder = await openNamedFolder(values), { parts, loras, weightDtype } = await variantOf(values);
  const model = await modelIdentity(folder, { parts, loras, weightDtype }, (part) => part.startsWith("transformer"));
  // It says where the noise is that a second transformer is for.
  using opened = await folder.family.open(folder);
  return { family: folder.family.name, model: { ...model, passes: JSON.stringify(opened.passes(2)) } };
}

/** What there is to say of a process that has opened its GPU. */
export async function helloOf(identity: Pick<Hello, "family" | "model">, gpu: Gpu): Promise<Hello> {
  const { precision, settings: { kernels, description: { name, source } } } = gpu;
  // Convolutions are no part of a pass.
  const families = (await kernelsInUse(gpu)).families.filter(({ family }) => family !== CONV3D.name);
  return {
    ...{ tilereel: config.version, ...identity, precision },
    kernels: { all: kernels, ...Object.fromEntries(families.map(({ family, variant }) => [family, variant])) },
    adapter: `${name} (${source})`,
  };
}

/**
 * Why an assistant would not compute the same, as the end of a sentence that begins with its name.
 *
 * @param theirs what it said, which is foreign
 * @returns undefined if it would
 */
export function whyOther(theirs: Readonly<Record<string, unknown>>, own: Hello): string | undefined {
  const said = (key: keyof Hello) => quotedValue(theirs[key]);
  if (theirs.tilereel !== own.tilereel) {
    return `is tilereel ${said("tilereel")}, and this is ${own.tilereel}: use the same at both ends`;
  }
  if (!same(theirs.family, own.family) || !same(modelKey(theirs.model), modelKey(own.model))) {
    return "has another model, LoRA or format of weights: give it the same model options as this command";
  }
  if (theirs.precision !== own.precision) {
    return `computes in ${said("precision")}, and this process in ${own.precision}: give both the same --precision`;
  }
  const kernels = (theirs.kernels ?? {}) as Readonly<Record<string, unknown>>;
  const other = [...new Set([...Object.keys(own.kernels), ...Object.keys(kernels)])]
    .find((family) => kernels[family] !== own.kernels[family]);
  if (other !== undefined) {
    return `runs the kernel ${quotedValue(kernels[other])} for ${quotedValue(other)}, and this process ` +
      `${quotedValue(own.kernels[other])}, so the bytes would differ: use GPUs of one kind, and the same --tuning`;
  }
  return undefined;
}

/** What of a model's identity decides: where there is a digest, a name does not count. */
function modelKey(model: unknown): unknown {
  const identity = (model ?? {}) as Readonly<Record<string, unknown>>;
  return Object.entries(identity).filter(([key]) => identity[`${key}Digest`] === undefined).sort();
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
