/**
 * Folders `tiny_cache*`: ten calls of a small model under diffusers' FirstBlockCache and pyramid attention broadcast. A
 * call that is skipped here and not there, or the other way round, is far outside the bounds.
 *
 * @module
 */
import type { Gpu } from "../../../gpu/gpu.ts";
import { combine } from "../../../gpu/ops/combine.ts";
import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import { product } from "../../attention/grid.ts";
import { firstBlockCache } from "../../cache/first_block.ts";
import { pyramidAttentionBroadcast } from "../../cache/pab.ts";
import type { StepCache } from "../../cache/step_cache.ts";
import { openPart } from "../../checkpoint/open_part.ts";
import { folderAt } from "../../files/disk.ts";
import { readTransformerConfig } from "../../wan/config.ts";
import { WAN } from "../../wan/family.ts";
import { WanTransformer3DModel } from "../../wan/transformer.ts";
import { TRANSFORMER_WEIGHTS } from "../../wan/weights.ts";
import { BOUNDS } from "../bounds.ts";
import { type Check, Checks, type ParityCase, References } from "../case.ts";

/** What metadata says of the calls under PAB. */
interface PabSettings {
  readonly self_attention: number;
  readonly cross_attention: number;
  readonly between: readonly [number, number];
}

/** Ten calls under each cache. */
export const stepCaches: ParityCase = {
  matches: /^tiny_cache/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(`${path}/reference.safetensors`);
    const { self_attention: self, cross_attention: cross, between } = references.setting<PabSettings>("pab");
    const thresholds = references.source.names().flatMap((name) => /^first_block\.(.*)\.0$/.exec(name)?.[1] ?? []);
    const caches: [name: string, cache: StepCache | undefined][] = [
      ["plain", undefined],
      ...thresholds.map((threshold): [string, StepCache] => [
        `first_block.${threshold}`,
        firstBlockCache({ threshold: Number(threshold) }),
      ]),
      ["pab", pyramidAttentionBroadcast({ self, cross, between })],
    ];
    for (const gpu of gpus) {
      for (const [name, cache] of caches) {
        const checks: Check[][] = [];
        for await (const [call, output] of calls(gpu, path, references, cache)) {
          const expected = { reference: `${name}.${call}` };
          const rows = new Checks(path, gpu, references).rows(name, BOUNDS.stepCache, output, expected);
          checks.push(await Array.fromAsync(rows));
        }
        // Of the ten calls, the one that is furthest off.
        for (const i of [0, 1]) yield checks.map((of) => of[i]!).reduce((a, b) => a.value > b.value ? a : b);
      }
    }
  },
};

/** The output of each call, in order. */
async function* calls(
  gpu: Gpu,
  path: string,
  references: References,
  cache: StepCache | undefined,
): AsyncIterable<[call: number, output: Float32Array]> {
  const folder = folderAt(path);
  using source = await openPart(folder, TRANSFORMER_WEIGHTS);
  using model = await WanTransformer3DModel.load(gpu, source, await readTransformerConfig(folder.file("config.json")));
  using owned = new TensorOwner(gpu);
  const upload = async (name: string) => owned.adopt(await references.upload(gpu, name));
  const noise = await upload("noise"), drift = await upload("drift"), text = await upload("encoder_hidden_states");
  const timesteps = [...await references.read("timesteps")];
  const { grid } = model.layout(noise.shape);
  using prepared = await cache?.prepare({
    gpu,
    model: { family: WAN, shape: model.shape },
    passes: ["prompt"],
    timesteps,
    sigmas: timesteps.map((timestep) => timestep / 1000),
    gridTokens: product(grid),
  });
  for (const [call, timestep] of timesteps.entries()) {
    const latents = owned.adopt(combine(gpu, [[1, noise], [0.02 * call, drift]]));
    const hooks = prepared?.at(call, "prompt");
    const input = { latents, timesteps: [timestep], conditioning: { text }, cache: hooks };
    const [velocity] = owned.adopt(await model.predict([input]));
    yield [call, await gpu.read(velocity!)];
    owned.free(velocity!, latents);
  }
}
