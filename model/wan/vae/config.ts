import { TilereelError } from "../../../gpu/common/errors.ts";
import type { Config } from "../../checkpoint/json.ts";
import type { StoredFile } from "../../files/store.ts";
import type { LatentSpace } from "../../vae/autoencoder.ts";
import { readPartConfig } from "../../checkpoint/open_part.ts";

/** The configuration of `AutoencoderKLWan`. */
export interface VaeConfig extends LatentSpace {
  /** Channels of the encoder's first stage. */
  readonly baseDim: number;
  /** Channels of the decoder's last stage. */
  readonly decoderBaseDim: number;
  /** Channels of each stage, as a multiple of the base. */
  readonly dimMult: readonly number[];
  readonly numResBlocks: number;
  /** For each change of stage in the encoder, whether it halves time besides space; the decoder goes backwards. */
  readonly temporalDownsample: readonly boolean[];
  /** Pixels along an edge of the squares that the network sees as channels; with 1 it sees pixels. */
  readonly patch: number;
  /** Whether shortcuts lead round the stages, as in Wan 2.2's VAE. */
  readonly shortcuts: boolean;
}

/** The channels of a clip. */
export const CLIP_CHANNELS = 3;

/** The values of Wan 2.1's VAE, which are diffusers' defaults. */
export const WAN_LATENTS_MEAN: readonly number[] = [
  ...[-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508],
  ...[0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921],
];
const WAN_LATENTS_STD: readonly number[] = [
  ...[2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743],
  ...[3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160],
];

/**
 * Reads `config.json` of a VAE in the diffusers layout.
 *
 * @throws {TilereelError} if a value has the wrong type or asks for another VAE than those of Wan 2.1 and 2.2.
 */
export async function readVaeConfig(file: string | StoredFile): Promise<VaeConfig> {
  return vaeConfig(await readPartConfig(file));
}

/** As {@link readVaeConfig}, of what such a file says. */
export function vaeConfig(config: Config): VaeConfig {
  config.require("_class_name", ["AutoencoderKLWan"], "AutoencoderKLWan");
  config.require("patch_size", [null, 1, 2], null);
  const patch = config.isNull("patch_size") ? 1 : config.integer("patch_size", 1);
  for (const key of ["in_channels", "out_channels"]) config.require(key, [CLIP_CHANNELS * patch ** 2], CLIP_CHANNELS);
  if (config.numbers("attn_scales", []).length > 0) throw config.unsupported("attn_scales", [[]]);

  const baseDim = config.integer("base_dim", 96);
  const zDim = config.integer("z_dim", 16);
  const dimMult = config.integers("dim_mult", [1, 2, 4, 4]);
  if (dimMult.length === 0) throw config.unsupported("dim_mult", [[1, 2, 4, 4]]);
  const temporalDownsample = config.booleans("temperal_downsample", [false, true, true], dimMult.length - 1);
  const latentsStd = config.numbers("latents_std", WAN_LATENTS_STD, zDim);
  if (latentsStd.some((std) => std <= 0)) {
    throw new TilereelError(`${config.path}: latents_std holds a value that is not above 0, but all must be`);
  }

  // The names in the config are only told to diffusers' pipeline; the network follows from the stages.
  const spatialScale = patch * 2 ** (dimMult.length - 1);
  const temporalScale = 2 ** temporalDownsample.filter((halves) => halves).length;
  config.require("scale_factor_spatial", [spatialScale], spatialScale);
  config.require("scale_factor_temporal", [temporalScale], temporalScale);
  return {
    baseDim,
    decoderBaseDim: config.isNull("decoder_base_dim") ? baseDim : config.integer("decoder_base_dim", baseDim),
    zDim,
    dimMult,
    numResBlocks: config.count("num_res_blocks", 2),
    temporalDownsample,
    latentsMean: config.numbers("latents_mean", WAN_LATENTS_MEAN, zDim),
    latentsStd,
    ...{ patch, shortcuts: config.boolean("is_residual", false) },
    outChannels: CLIP_CHANNELS,
    spatialScale,
    temporalScale,
  };
}
