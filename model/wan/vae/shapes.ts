import type { Config } from "../../checkpoint/json.ts";
import { countOf, lengthOf, shapeOf } from "../../checkpoint/shapes.ts";
import { otherTensors } from "../../checkpoint/tensor_names.ts";
import type { TensorSource } from "../../checkpoint/tensor_source.ts";
import { isTiny, tinySizes } from "../../taehv/decoder.ts";
import { CLIP_CHANNELS } from "./config.ts";

/** The network of Wan 2.2's VAE, and the distribution of its latents, which no tensor says. */
const WAN_22 = {
  latents_mean: [
    ...[-0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891],
    ...[0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502],
    ...[-0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723],
    ...[-0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667],
  ],
  latents_std: [
    ...[0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901],
    ...[0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659],
    ...[0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944],
    ...[0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744],
  ],
};
const WAN_22_NETWORK = { base_dim: 160, decoder_base_dim: 256, is_residual: true };

/**
 * What the shapes of a VAE's weights say, by the keys of its `config.json`. Those of a tiny decoder say which VAE's
 * latents it takes.
 *
 * @param config says the distribution of latents. Default: as in Wan 2.1 or, with 48 channels, Wan 2.2
 * @throws {TilereelError} if these are other weights, or one is missing
 */
export function vaeConfigFromShapes(weights: TensorSource, config: Config): Record<string, unknown> {
  const isOwn = weights.has("post_quant_conv.weight") && weights.has("encoder.conv_in.weight");
  if (!isOwn && !isTiny(weights)) throw otherTensors(weights, "a VAE of Wan");
  const sizes = isOwn ? networkSizes(weights) : tinyNetwork(weights), own = sizes.z_dim === 48 ? WAN_22 : {};
  const said = Object.fromEntries(
    Object.keys(WAN_22).flatMap((key) => config.isNull(key) ? [] : [[key, config.value(key)]]),
  );
  return { _class_name: "AutoencoderKLWan", ...own, ...said, ...sizes };
}

function tinyNetwork(weights: TensorSource) {
  const { zDim, patch } = tinySizes(weights);
  const space = { z_dim: zDim, patch_size: patch === 1 ? null : patch };
  return { ...patch === 1 ? {} : WAN_22_NETWORK, ...space, ...pixelChannels(patch) };
}

const pixelChannels = (patch: number) => ({
  in_channels: CLIP_CHANNELS * patch ** 2,
  out_channels: CLIP_CHANNELS * patch ** 2,
});

function networkSizes(weights: TensorSource) {
  const [base, channels] = shapeOf(weights, "encoder.conv_in.weight"), patch = Math.sqrt(channels / CLIP_CHANNELS);
  const [zDim] = shapeOf(weights, "post_quant_conv.weight");
  const isResidual = weights.has("encoder.down_blocks.0.resnets.0.conv1.weight");
  const stages = isResidual ? stagesOfBlocks(weights) : stagesInOneList(weights);
  const multiples = stages.map(({ width }) => width / base);
  return {
    ...{ base_dim: base, z_dim: zDim, is_residual: isResidual },
    decoder_base_dim: lengthOf(weights, "decoder.norm_out.gamma") / (multiples[0] ?? 1),
    patch_size: patch === 1 ? null : patch,
    ...pixelChannels(patch),
    dim_mult: multiples,
    num_res_blocks: stages[0]?.blocks ?? 0,
    temperal_downsample: stages.slice(0, -1).map(({ halvesTime }) => halvesTime),
  };
}

/** A stage of the encoder: its channels, its blocks, and whether the step behind it halves time. */
interface Stage {
  readonly width: number;
  readonly blocks: number;
  readonly halvesTime: boolean;
}

/** Wan 2.2's encoder has a list of blocks for each stage. */
function stagesOfBlocks(weights: TensorSource): Stage[] {
  return Array.from({ length: countOf(weights, /^encoder\.down_blocks\.(\d+)\./) }, (_, i) => {
    const stage = `encoder.down_blocks.${i}.`;
    return {
      width: shapeOf(weights, `${stage}resnets.0.conv1.weight`)[0],
      blocks: countOf(weights, new RegExp(`^encoder\\.down_blocks\\.${i}\\.resnets\\.(\\d+)\\.`)),
      halvesTime: weights.has(`${stage}downsampler.time_conv.weight`),
    };
  });
}

/** Wan 2.1's encoder has blocks and steps in one list. */
function stagesInOneList(weights: TensorSource): Stage[] {
  const stages: Stage[] = [];
  let width = 0, blocks = 0;
  for (let i = 0; i < countOf(weights, /^encoder\.down_blocks\.(\d+)\./); i++) {
    const item = `encoder.down_blocks.${i}.`;
    if (weights.has(`${item}conv1.weight`)) {
      width = shapeOf(weights, `${item}conv1.weight`)[0];
      blocks++;
    } else if (weights.has(`${item}resample.1.weight`)) {
      stages.push({ width, blocks, halvesTime: weights.has(`${item}time_conv.weight`) });
      blocks = 0;
    }
  }
  return [...stages, { width, blocks, halvesTime: false }];
}
