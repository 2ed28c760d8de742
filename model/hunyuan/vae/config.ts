import { TilereelError } from "../../../gpu/common/errors.ts";
import type { Config } from "../../checkpoint/json.ts";
import { readPartConfig } from "../../checkpoint/open_part.ts";
import type { StoredFile } from "../../files/store.ts";
import type { LatentSpace } from "../../vae/autoencoder.ts";

/** The configuration of `AutoencoderKLHunyuanVideo`. */
export interface VaeConfig extends LatentSpace {
  /** Channels of each stage, highest resolution first. */
  readonly channels: readonly number[];
  /** Residual blocks of a stage of the encoder; the decoder's have one more. */
  readonly layersPerBlock: number;
  /** Groups of all norms. */
  readonly groups: number;
  readonly inChannels: number;
}

/**
 * Reads `config.json` of a VAE in the diffusers layout.
 *
 * @throws {TilereelError} if a value has the wrong type or asks for another VAE than HunyuanVideo's
 */
export async function readVaeConfig(file: string | StoredFile): Promise<VaeConfig> {
  return vaeConfig(await readPartConfig(file));
}

/** As {@link readVaeConfig}, of what such a file says. */
export function vaeConfig(config: Config): VaeConfig {
  config.require("_class_name", ["AutoencoderKLHunyuanVideo"], "AutoencoderKLHunyuanVideo");
  config.require("in_channels", [3], 3);
  config.require("out_channels", [3], 3);
  config.require("act_fn", ["silu"], "silu");
  config.require("mid_block_add_attention", [true], true);
  config.require("spatial_compression_ratio", [8], 8);
  config.require("temporal_compression_ratio", [4], 4);
  const channels = config.integers("block_out_channels", [128, 256, 512, 512]);
  // With four stages, three change the resolution in space and two of them in time.
  if (channels.length !== 4) throw config.unsupported("block_out_channels", [[128, 256, 512, 512]]);
  const groups = config.integer("norm_num_groups", 32);
  if (channels.some((count) => count % groups !== 0)) {
    throw new TilereelError(
      `${config.path}: norm_num_groups is ${groups}, but it must divide all of block_out_channels, ` +
        JSON.stringify(channels),
    );
  }
  for (const [direction, kind] of [["down", "HunyuanVideoDownBlock3D"], ["up", "HunyuanVideoUpBlock3D"]] as const) {
    const name = `${direction}_block_types`, given = config.value(name);
    const wanted = channels.map(() => kind);
    if (given !== undefined && JSON.stringify(given) !== JSON.stringify(wanted)) {
      throw config.unsupported(name, [wanted]);
    }
  }
  const zDim = config.integer("latent_channels", 16);
  const scalingFactor = config.number("scaling_factor", 0.476986, { positive: true });
  return {
    channels,
    groups,
    layersPerBlock: config.count("layers_per_block", 2),
    zDim,
    latentsMean: Array(zDim).fill(0),
    latentsStd: Array(zDim).fill(1 / scalingFactor),
    inChannels: 3,
    outChannels: 3,
    spatialScale: 8,
    temporalScale: 4,
  };
}
