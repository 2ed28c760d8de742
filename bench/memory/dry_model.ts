/**
 * Wan 2.1's models as files that hold nothing: for a dry device, which needs shapes only.
 *
 * @module
 */
import { elementCount, storedBytes } from "../../model/checkpoint/dtype.ts";
import { Config } from "../../model/checkpoint/json.ts";
import type { TensorInfo, TensorSource } from "../../model/checkpoint/tensor_source.ts";
import { WAN, WanModel } from "../../model/wan/family.ts";
import { vaeConfig } from "../../model/wan/vae/config.ts";
import { VAE } from "../full_size/checkpoint.ts";
import { type TensorSpec, transformerTensors, vaeTensors } from "../full_size/tensor_spec.ts";
import { WAN_SHAPES } from "../wan_shapes.ts";

/** Names of the models. */
export const DRY_MODELS = ["1.3B", "14B"] as const;

/** A model of the right shapes without data: the transformer in the format `stored`, the VAE in f32, no text encoder. */
export function dryModel(
  name: typeof DRY_MODELS[number],
  { stored = "BF16", layers }: { readonly stored?: "F32" | "BF16" | undefined; readonly layers?: number } = {},
): WanModel {
  const shape = WAN_SHAPES[name === "14B" ? "14b" : "1.3b"].config,
    config = { ...shape, layers: layers ?? shape.layers };
  const vae = vaeConfig(new Config(name, VAE));
  return new WanModel({
    folder: {
      family: WAN,
      path: name,
      generation: WAN.defaults,
      component: (part) => Promise.reject(new Error(`a dry model has no ${part}`)),
      className: () => undefined,
    },
    scheduler: {
      kind: "unipc",
      numTrainTimesteps: 1000,
      flowShift: 3,
      sigmas: "diffusers",
      solverOrder: 2,
      solverType: "bh2",
      disableCorrector: [],
    },
    config,
    weights: drySource(transformerTensors(config), stored),
    vaeConfig: vae,
    vae: drySource(vaeTensors(vae), "F32"),
  });
}

let shared = new Uint8Array(0);

/** Bytes that all tensors share, for clearing gigabytes takes longer than all else. */
function zeros(length: number): Uint8Array<ArrayBuffer> {
  if (shared.length < length) shared = new Uint8Array(length);
  return shared.subarray(0, length);
}

/** Tensors of these shapes, all of them zeros. */
export function drySource(tensors: readonly TensorSpec[], dtype: "F32" | "BF16"): TensorSource {
  const infos = new Map(tensors.map(({ name, shape }): [string, TensorInfo] => [
    name,
    { name, shape, dtype, bytes: storedBytes(dtype, elementCount(shape)), file: "dry" },
  ]));
  const info = (name: string): TensorInfo => {
    const found = infos.get(name);
    if (!found) throw new Error(`no tensor "${name}"`);
    return found;
  };
  return {
    path: "dry",
    metadata: {},
    names: () => [...infos.keys()],
    has: (name) => infos.has(name),
    info,
    read: (name) => Promise.resolve(zeros(info(name).bytes)),
    readRange: (_name, _start, length, into) => Promise.resolve(into?.subarray(0, length) ?? zeros(length)),
    readRows: () => Promise.reject(new Error("a dry source has no rows")),
    close() {},
    [Symbol.dispose]() {},
  };
}
