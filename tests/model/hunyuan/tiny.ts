import { memoryFile } from "../../../model/files/memory.ts";
import { join } from "node:path";
import type { Gpu } from "../../../gpu/gpu.ts";
import { openPart } from "../../../model/checkpoint/open_part.ts";
import type { FamilyModel, PromptEncoder } from "../../../model/family.ts";
import { readTransformerConfig } from "../../../model/hunyuan/config.ts";
import { HUNYUAN, hunyuanModel } from "../../../model/hunyuan/family.ts";
import { readVaeConfig } from "../../../model/hunyuan/vae/config.ts";
import { TRANSFORMER_WEIGHTS, VAE_WEIGHTS } from "../../../model/hunyuan/weights.ts";
import { randn } from "../../gpu.ts";
import { ROOT } from "../../process.ts";

/** Two dual-stream and three single-stream blocks of two heads of 32. */
export const TINY = join(ROOT, "tests/fixtures/tiny_hunyuan");

/** A small autoencoder. */
export const TINY_VAE = join(ROOT, "tests/fixtures/tiny_hunyuan_vae");

/** The size of its clips, and of their latents. */
export const CLIP = { width: 96, height: 64, frames: 9 }, LATENTS = [1, 16, 3, 8, 12];
/** Text tokens, valid or not, and their channels; channels of a prompt as one vector. */
export const TEXT_TOKENS = 12, TEXT_DIM = 48, POOLED_DIM = 24;

/** The model with a small autoencoder; embeddings of prompts are random numbers. */
export async function tinyModel(): Promise<FamilyModel> {
  const model = hunyuanModel({
    folder: {
      ...{ given: [], path: TINY, family: HUNYUAN, className: () => undefined },
      generation: { ...HUNYUAN.defaults, ...CLIP, steps: 3, textTokens: TEXT_TOKENS },
      component: () => Promise.reject(new Error("no other part")),
      file: (name) => memoryFile(name, new Uint8Array()),
    },
    scheduler: {
      ...{ kind: "euler", solverOrder: 2, solverType: "bh2", disableCorrector: [] },
      ...{ numTrainTimesteps: 1000, flowShift: 7, sigmas: "hunyuan" },
    },
    config: await readTransformerConfig(`${TINY}/config.json`),
    weights: await openPart(TINY, TRANSFORMER_WEIGHTS),
    vaeConfig: await readVaeConfig(`${TINY_VAE}/config.json`),
    vae: await openPart(TINY_VAE, VAE_WEIGHTS),
  });
  return Object.assign(model, { promptEncoder: randomEncoder });
}

function randomEncoder(gpu: Gpu): PromptEncoder {
  return {
    encode: (prompts, tokens) =>
      Promise.resolve(prompts.map((prompt) => ({
        text: gpu.upload(randn(tokens * TEXT_DIM, prompt.length), [1, tokens, TEXT_DIM]),
        textLength: Math.min(tokens, prompt.length),
        pooled: gpu.upload(randn(POOLED_DIM, 100 + prompt.length), [1, POOLED_DIM]),
      }))),
    [Symbol.dispose]() {},
  };
}
