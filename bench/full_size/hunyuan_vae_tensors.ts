/**
 * The tensors that HunyuanVideo's autoencoder has in the diffusers layout.
 *
 * @module
 */
import type { VaeConfig } from "../../model/hunyuan/vae/config.ts";
import { biased, numbered, tensor, type TensorSpec } from "./tensor_spec.ts";

/** The tensors of `AutoencoderKLHunyuanVideo`. */
export function hunyuanVaeTensors(config: VaeConfig): TensorSpec[] {
  const { channels, layersPerBlock, zDim, inChannels, outChannels } = config, last = channels.length - 1;
  const half = (name: string, block: string, sampler: string, widths: readonly number[], layers: number) =>
    numbered(widths.length, (i) => {
      const stage = `${name}.${block}_blocks.${i}`, cout = widths[i]!, cin = widths[Math.max(i - 1, 0)]!;
      return [
        ...numbered(layers, (j) => resnet(`${stage}.resnets.${j}`, cout, j === 0 ? cin : cout)),
        ...(i < last ? biased(`${stage}.${sampler}.0.conv.conv`, cout, cout, 3, 3, 3) : []),
      ];
    });
  return [
    ...biased("encoder.conv_in.conv", channels[0]!, inChannels, 3, 3, 3),
    ...half("encoder", "down", "downsamplers", channels, layersPerBlock),
    ...midBlock("encoder.mid_block", channels[last]!),
    ...head("encoder", 2 * zDim, channels[last]!),
    ...biased("quant_conv", 2 * zDim, 2 * zDim, 1, 1, 1),
    ...biased("post_quant_conv", zDim, zDim, 1, 1, 1),
    ...biased("decoder.conv_in.conv", channels[last]!, zDim, 3, 3, 3),
    ...midBlock("decoder.mid_block", channels[last]!),
    ...half("decoder", "up", "upsamplers", channels.toReversed(), layersPerBlock + 1),
    ...head("decoder", outChannels, channels[0]!),
  ];
}

function norm(name: string, channels: number): TensorSpec[] {
  return [tensor(`${name}.weight`, channels), tensor(`${name}.bias`, channels)];
}

function midBlock(name: string, dim: number): TensorSpec[] {
  return [
    ...resnet(`${name}.resnets.0`, dim, dim),
    ...norm(`${name}.attentions.0.group_norm`, dim),
    ...["to_q", "to_k", "to_v", "to_out.0"].flatMap((layer) => biased(`${name}.attentions.0.${layer}`, dim, dim)),
    ...resnet(`${name}.resnets.1`, dim, dim),
  ];
}

function resnet(name: string, outputs: number, inputs: number): TensorSpec[] {
  return [
    ...norm(`${name}.norm1`, inputs),
    ...biased(`${name}.conv1.conv`, outputs, inputs, 3, 3, 3),
    ...norm(`${name}.norm2`, outputs),
    ...biased(`${name}.conv2.conv`, outputs, outputs, 3, 3, 3),
    ...(outputs === inputs ? [] : biased(`${name}.conv_shortcut.conv`, outputs, inputs, 1, 1, 1)),
  ];
}

function head(half: string, outputs: number, inputs: number): TensorSpec[] {
  return [...norm(`${half}.conv_norm_out`, inputs), ...biased(`${half}.conv_out.conv`, outputs, inputs, 3, 3, 3)];
}
