/**
 * What tensors the parts of a Wan model have in the diffusers layout.
 *
 * @module
 */
import type { TransformerConfig } from "../../model/wan/config.ts";
import type { Umt5Config } from "../../model/umt5/config.ts";
import type { VaeConfig } from "../../model/wan/vae/config.ts";

/** Name and shape of a stored tensor. */
export interface TensorSpec {
  readonly name: string;
  readonly shape: readonly number[];
}

/** Of `UMT5EncoderModel`. */
export function umt5Tensors(config: Umt5Config): TensorSpec[] {
  const { dModel, dFf, heads, dKv, layers, relativeBuckets, vocabSize } = config, inner = heads * dKv;
  return [
    { name: "shared.weight", shape: [vocabSize, dModel] },
    ...Array.from({ length: layers }, (_, i) => {
      const layer = `encoder.block.${i}.layer`,
        attention = `${layer}.0.SelfAttention`,
        ff = `${layer}.1.DenseReluDense`;
      return [
        { name: `${layer}.0.layer_norm.weight`, shape: [dModel] },
        ...["q", "k", "v"].map((name) => ({ name: `${attention}.${name}.weight`, shape: [inner, dModel] })),
        { name: `${attention}.o.weight`, shape: [dModel, inner] },
        { name: `${attention}.relative_attention_bias.weight`, shape: [relativeBuckets, heads] },
        { name: `${layer}.1.layer_norm.weight`, shape: [dModel] },
        ...["wi_0", "wi_1"].map((name) => ({ name: `${ff}.${name}.weight`, shape: [dFf, dModel] })),
        { name: `${ff}.wo.weight`, shape: [dModel, dFf] },
      ];
    }).flat(),
    { name: "encoder.final_layer_norm.weight", shape: [dModel] },
  ];
}

/** Of `WanTransformer3DModel`. */
export function transformerTensors(config: TransformerConfig): TensorSpec[] {
  const { dim, ffnDim, textDim, freqDim, inChannels, outChannels, patchSize } = config;
  const patch = patchSize.reduce((a, b) => a * b);
  const embedder = "condition_embedder";
  return [
    { name: "patch_embedding.weight", shape: [dim, inChannels, ...patchSize] },
    { name: "patch_embedding.bias", shape: [dim] },
    ...linear(`${embedder}.time_embedder.linear_1`, dim, freqDim),
    ...linear(`${embedder}.time_embedder.linear_2`, dim, dim),
    ...linear(`${embedder}.time_proj`, 6 * dim, dim),
    ...linear(`${embedder}.text_embedder.linear_1`, dim, textDim),
    ...linear(`${embedder}.text_embedder.linear_2`, dim, dim),
    ...Array.from({ length: config.layers }, (_, i) => [
      ...["attn1", "attn2"].flatMap((attention) => [
        ...["to_q", "to_k", "to_v", "to_out.0"].flatMap((n) => linear(`blocks.${i}.${attention}.${n}`, dim, dim)),
        ...["norm_q", "norm_k"].map((n) => ({ name: `blocks.${i}.${attention}.${n}.weight`, shape: [dim] })),
      ]),
      ...(config.crossAttnNorm ? ["weight", "bias"] : []).map((n) => ({
        name: `blocks.${i}.norm2.${n}`,
        shape: [dim],
      })),
      ...linear(`blocks.${i}.ffn.net.0.proj`, ffnDim, dim),
      ...linear(`blocks.${i}.ffn.net.2`, dim, ffnDim),
      { name: `blocks.${i}.scale_shift_table`, shape: [1, 6, dim] },
    ]).flat(),
    ...linear("proj_out", outChannels * patch, dim),
    { name: "scale_shift_table", shape: [1, 2, dim] },
  ];
}

/** Of `AutoencoderKLWan`. */
export function vaeTensors(config: VaeConfig): TensorSpec[] {
  return [
    ...encoderTensors(config),
    ...conv("quant_conv", 2 * config.zDim, 2 * config.zDim, [1, 1, 1]),
    ...conv("post_quant_conv", config.zDim, config.zDim, [1, 1, 1]),
    ...decoderTensors(config),
  ];
}

function encoderTensors(
  { baseDim, dimMult, numResBlocks, temporalDownsample, zDim, inChannels }: VaeConfig,
): TensorSpec[] {
  const specs = conv("encoder.conv_in", baseDim, inChannels, [3, 3, 3]);
  let channels = baseDim, block = 0;
  for (const [stage, mult] of dimMult.entries()) {
    for (let i = 0; i < numResBlocks; i++) {
      specs.push(...resnet(`encoder.down_blocks.${block++}`, baseDim * mult, channels));
      channels = baseDim * mult;
    }
    if (stage === dimMult.length - 1) continue;
    const name = `encoder.down_blocks.${block++}`;
    specs.push(...conv(`${name}.resample.1`, channels, channels, [3, 3]));
    if (temporalDownsample[stage]) specs.push(...conv(`${name}.time_conv`, channels, channels, [3, 1, 1]));
  }
  return [...specs, ...midBlock("encoder.mid_block", channels), ...head("encoder", 2 * zDim, channels)];
}

function decoderTensors(config: VaeConfig): TensorSpec[] {
  const { decoderBaseDim, dimMult, numResBlocks, zDim, outChannels } = config;
  const time = config.temporalDownsample.toReversed();
  let channels = decoderBaseDim * dimMult.at(-1)!;
  const specs = [
    ...conv("decoder.conv_in", channels, zDim, [3, 3, 3]),
    ...midBlock("decoder.mid_block", channels),
  ];
  for (const [stage, mult] of dimMult.toReversed().entries()) {
    const name = `decoder.up_blocks.${stage}`;
    for (let i = 0; i <= numResBlocks; i++) {
      specs.push(...resnet(`${name}.resnets.${i}`, decoderBaseDim * mult, channels));
      channels = decoderBaseDim * mult;
    }
    if (stage === dimMult.length - 1) continue;
    specs.push(...conv(`${name}.upsamplers.0.resample.1`, channels / 2, channels, [3, 3]));
    if (time[stage]) specs.push(...conv(`${name}.upsamplers.0.time_conv`, 2 * channels, channels, [3, 1, 1]));
    channels /= 2;
  }
  return [...specs, ...head("decoder", outChannels, channels)];
}

function midBlock(name: string, dim: number): TensorSpec[] {
  return [
    ...resnet(`${name}.resnets.0`, dim, dim),
    gamma(`${name}.attentions.0.norm`, dim, 2),
    ...conv(`${name}.attentions.0.to_qkv`, 3 * dim, dim, [1, 1]),
    ...conv(`${name}.attentions.0.proj`, dim, dim, [1, 1]),
    ...resnet(`${name}.resnets.1`, dim, dim),
  ];
}

function resnet(name: string, cout: number, cin: number): TensorSpec[] {
  return [
    gamma(`${name}.norm1`, cin, 3),
    ...conv(`${name}.conv1`, cout, cin, [3, 3, 3]),
    gamma(`${name}.norm2`, cout, 3),
    ...conv(`${name}.conv2`, cout, cout, [3, 3, 3]),
    ...(cin === cout ? [] : conv(`${name}.conv_shortcut`, cout, cin, [1, 1, 1])),
  ];
}

function head(half: string, cout: number, cin: number): TensorSpec[] {
  return [gamma(`${half}.norm_out`, cin, 3), ...conv(`${half}.conv_out`, cout, cin, [3, 3, 3])];
}

function conv(name: string, cout: number, cin: number, kernel: readonly number[]): TensorSpec[] {
  return [{ name: `${name}.weight`, shape: [cout, cin, ...kernel] }, { name: `${name}.bias`, shape: [cout] }];
}

function linear(name: string, output: number, input: number): TensorSpec[] {
  return [{ name: `${name}.weight`, shape: [output, input] }, { name: `${name}.bias`, shape: [output] }];
}

function gamma(name: string, dim: number, ones: number): TensorSpec {
  return { name: `${name}.gamma`, shape: [dim, ...Array<number>(ones).fill(1)] };
}
