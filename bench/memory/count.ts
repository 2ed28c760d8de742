import { dryGpu, type DryGpuOptions } from "../../gpu/device/dry.ts";
import type { FamilyModel } from "../../model/family.ts";
import { type CountedClip, countMemory as countClip, type MemoryCount } from "../../model/estimate/clip_memory.ts";
import { drySource } from "../full_size/made_source.ts";
import { type MadeDtype, SHAPES } from "../shapes.ts";

/** A clip, and how it is rendered. */
export interface ModelCase extends CountedClip {
  /** The device that it runs on. */
  readonly device?: DryGpuOptions;
}

/** The names of models, and those of their shapes. */
export const DRY_MODELS = {
  "1.3B": "1.3b",
  "14B": "14b",
  HunyuanVideo: "hunyuan",
  "TI2V 5B": "ti2v-5b",
  "I2V A14B": "i2v-a14b",
} as const;

/** The same with one of these models. */
export interface MemoryCase extends ModelCase {
  readonly model: keyof typeof DRY_MODELS;
  /** The format of the transformer's files. Default: BF16. */
  readonly stored?: MadeDtype;
}

/** Counts the memory of rendering a clip stage by stage, with a model that is made up. */
export async function countMemory({ model, stored, ...one }: MemoryCase): Promise<MemoryCount> {
  return await countModel(SHAPES[DRY_MODELS[model]].model(drySource, { ...stored && { stored } }), one);
}

/** Loads, denoises and decodes on a dry device. */
export async function countModel(model: FamilyModel, { device, ...clip }: ModelCase): Promise<MemoryCount> {
  return await countClip((onBuffer) => dryGpu({ ...device, onBuffer }), model, clip);
}
