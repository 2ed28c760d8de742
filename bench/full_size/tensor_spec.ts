import type { LlamaConfig } from "../../model/llama/config.ts";
import type { ImageTokens, TransformerConfig } from "../../model/wan/config.ts";
import type { Umt5Config } from "../../model/umt5/config.ts";
import type { VaeConfig } from "../../model/wan/vae/config.ts";

/** Name and shape of a stored tensor, in the diffusers layout. */
export interface TensorSpec {
  readonly name: string;
  readonly shape: readonly number[];
}

/** A tensor of a shape. */
export function tensor(name: string, ...shape: number[]): TensorSpec {
  return { name, shape };
}

/** The weight of a linear layer or of a convolution, and its bias. */
export function biased(name: string, outputs: number, inputs: number, ...kernel: number[]): TensorSpec[] {
  return [tensor(`${name}.weight`, outputs, inputs, ...kernel), tensor(`${name}.bias`, outputs)];
}

/** The tensors of so many layers. */
export function numbered(count: number, of: (i: number) => TensorSpec[]): TensorSpec[] {
  return Array.from({ length: count }, (_, i) => of(i)).flat();
}

/** The tensors of `UMT5EncoderModel`. */
export function umt5Tensors(config: Umt5Config): TensorSpec[] {
  const { dModel, dFf, heads, dKv, layers, relativeBuckets, vocabSize } = config, inner = heads * dKv;
  return [
    tensor("shared.weight", vocabSize, dModel),
    ...numbered(layers, (i) => {
      const [attention, ff] = [0, 1].map((part) => `encoder.block.${i}.layer.${part}`) as [string, string];
      return [
        tensor(`${attention}.layer_norm.weight`, dModel),
        ...["q", "k", "v"].map((name) => tensor(`${attention}.SelfAttention.${name}.weight`, inner, dModel)),
        tensor(`${attention}.SelfAttention.o.weight`, dModel, inner),
        tensor(`${attention}.SelfAttention.relative_attention_bias.weight`, relativeBuckets, heads),
        tensor(`${ff}.layer_norm.weight`, dModel),
        ...["wi_0", "wi_1"].map((name) => tensor(`${ff}.DenseReluDense.${name}.weight`, dFf, dModel)),
        tensor(`${ff}.DenseReluDense.wo.weight`, dModel, dFf),
      ];
    }),
    tensor("encoder.final_layer_norm.weight", dModel),
  ];
}

/** The tensors of `LlamaModel`. */
export function llamaTensors({ dim, ffnDim, heads, keyHeads, headDim, layers, vocabSize }: LlamaConfig): TensorSpec[] {
  return [
    tensor("embed_tokens.weight", vocabSize, dim),
    ...numbered(layers, (i) => {
      const [attention, mlp] = [`layers.${i}.self_attn`, `layers.${i}.mlp`];
      return [
        tensor(`layers.${i}.input_layernorm.weight`, dim),
        tensor(`${attention}.q_proj.weight`, heads * headDim, dim),
        ...["k", "v"].map((name) => tensor(`${attention}.${name}_proj.weight`, keyHeads * headDim, dim)),
        tensor(`${attention}.o_proj.weight`, dim, heads * headDim),
        tensor(`layers.${i}.post_attention_layernorm.weight`, dim),
        ...["gate", "up"].map((name) => tensor(`${mlp}.${name}_proj.weight`, ffnDim, dim)),
        tensor(`${mlp}.down_proj.weight`, dim, ffnDim),
      ];
    }),
    tensor("norm.weight", dim),
  ];
}

/** The tensors of `WanTransformer3DModel`. */
export function transformerTensors(config: TransformerConfig): TensorSpec[] {
  const { dim, ffnDim, textDim, freqDim, inChannels, outChannels, patchSize, images } = config;
  return [
    ...biased("patch_embedding", dim, inChannels, ...patchSize),
    ...biased("condition_embedder.time_embedder.linear_1", dim, freqDim),
    ...biased("condition_embedder.time_embedder.linear_2", dim, dim),
    ...biased("condition_embedder.time_proj", 6 * dim, dim),
    ...biased("condition_embedder.text_embedder.linear_1", dim, textDim),
    ...biased("condition_embedder.text_embedder.linear_2", dim, dim),
    ...images ? imageEmbedderTensors(images, dim) : [],
    ...numbered(config.layers, (i) => [
      ...["attn1", "attn2"].flatMap((attention) => [
        ...["to_q", "to_k", "to_v", "to_out.0"].flatMap((n) => biased(`blocks.${i}.${attention}.${n}`, dim, dim)),
        ...["norm_q", "norm_k"].map((n) => tensor(`blocks.${i}.${attention}.${n}.weight`, dim)),
      ]),
      ...(images ? ["add_k_proj", "add_v_proj"] : []).flatMap((n) => biased(`blocks.${i}.attn2.${n}`, dim, dim)),
      ...images ? [tensor(`blocks.${i}.attn2.norm_added_k.weight`, dim)] : [],
      ...config.gated ? biased(`blocks.${i}.attn1.to_gate_compress`, dim, dim) : [],
      ...(config.crossAttnNorm ? ["weight", "bias"] : []).map((n) => tensor(`blocks.${i}.norm2.${n}`, dim)),
      ...biased(`blocks.${i}.ffn.net.0.proj`, ffnDim, dim),
      ...biased(`blocks.${i}.ffn.net.2`, dim, ffnDim),
      tensor(`blocks.${i}.scale_shift_table`, 1, 6, dim),
    ]),
    ...biased("proj_out", outChannels * patchSize.reduce((a, b) => a * b), dim),
    tensor("scale_shift_table", 1, 2, dim),
  ];
}

function imageEmbedderTensors({ dim, positions }: ImageTokens, outputs: number): TensorSpec[] {
  const name = "condition_embedder.image_embedder";
  const norm = (n: string, dim: number) => ["weight", "bias"].map((of) => tensor(`${name}.${n}.${of}`, dim));
  return [
    ...norm("norm1", dim),
    ...biased(`${name}.ff.net.0.proj`, dim, dim),
    ...biased(`${name}.ff.net.2`, outputs, dim),
    ...norm("norm2", outputs),
    ...positions === undefined ? [] : [tensor(`${name}.pos_embed`, 1, positions, dim)],
  ];
}

/** The tensors of `AutoencoderKLWan`. */
export function vaeTensors(config: VaeConfig): TensorSpec[] {
  const { zDim } = config;
  return [
    ...encoderTensors(config),
    ...biased("quant_conv", 2 * zDim, 2 * zDim, 1, 1, 1),
    ...biased("post_quant_conv", zDim, zDim, 1, 1, 1),
    ...decoderTensors(config),
  ];
}

function encoderTensors(config: VaeConfig): TensorSpec[] {
  const { baseDim, dimMult, numResBlocks, temporalDownsample, zDim, outChannels, patch, shortcuts } = config;
  const specs = biased("encoder.conv_in", baseDim, outChannels * patch ** 2, 3, 3, 3);
  let channels = baseDim, block = 0;
  for (const [stage, mult] of dimMult.entries()) {
    const name = (part: string) => `encoder.down_blocks.${shortcuts ? `${stage}.${part}` : block++}`;
    for (let i = 0; i < numResBlocks; i++) {
      specs.push(...resnet(name(`resnets.${i}`), baseDim * mult, channels));
      channels = baseDim * mult;
    }
    if (stage === dimMult.length - 1) continue;
    const step = name("downsampler");
    specs.push(...biased(`${step}.resample.1`, channels, channels, 3, 3));
    if (temporalDownsample[stage]) specs.push(...biased(`${step}.time_conv`, channels, channels, 3, 1, 1));
  }
  return [...specs, ...midBlock("encoder.mid_block", channels), ...head("encoder", 2 * zDim, channels)];
}

function decoderTensors(config: VaeConfig): TensorSpec[] {
  const { decoderBaseDim, dimMult, numResBlocks, zDim, outChannels, patch, shortcuts } = config;
  const time = config.temporalDownsample.toReversed();
  let channels = decoderBaseDim * dimMult.at(-1)!;
  const specs = [
    ...biased("decoder.conv_in", channels, zDim, 3, 3, 3),
    ...midBlock("decoder.mid_block", channels),
  ];
  for (const [stage, mult] of dimMult.toReversed().entries()) {
    const name = `decoder.up_blocks.${stage}`, step = `${name}.${shortcuts ? "upsampler" : "upsamplers.0"}`;
    for (let i = 0; i <= numResBlocks; i++) {
      specs.push(...resnet(`${name}.resnets.${i}`, decoderBaseDim * mult, channels));
      channels = decoderBaseDim * mult;
    }
    if (stage === dimMult.length - 1) continue;
    const next = shortcuts ? channels : channels / 2;
    specs.push(...biased(`${step}.resample.1`, next, channels, 3, 3));
    if (time[stage]) specs.push(...biased(`${step}.time_conv`, 2 * channels, channels, 3, 1, 1));
    channels = next;
  }
  return [...specs, ...head("decoder", outChannels * patch ** 2, channels)];
}

function midBlock(name: string, dim: number): TensorSpec[] {
  return [
    ...resnet(`${name}.resnets.0`, dim, dim),
    tensor(`${name}.attentions.0.norm.gamma`, dim, 1, 1),
    ...biased(`${name}.attentions.0.to_qkv`, 3 * dim, dim, 1, 1),
    ...biased(`${name}.attentions.0.proj`, dim, dim, 1, 1),
    ...resnet(`${name}.resnets.1`, dim, dim),
  ];
}

function resnet(name: string, outputs: number, inputs: number): TensorSpec[] {
  return [
    tensor(`${name}.norm1.gamma`, inputs, 1, 1, 1),
    ...biased(`${name}.conv1`, outputs, inputs, 3, 3, 3),
    tensor(`${name}.norm2.gamma`, outputs, 1, 1, 1),
    ...biased(`${name}.conv2`, outputs, outputs, 3, 3, 3),
    ...(outputs === inputs ? [] : biased(`${name}.conv_shortcut`, outputs, inputs, 1, 1, 1)),
  ];
}

function head(half: string, outputs: number, inputs: number): TensorSpec[] {
  return [tensor(`${half}.norm_out.gamma`, inputs, 1, 1, 1), ...biased(`${half}.conv_out`, outputs, inputs, 3, 3, 3)];
}
