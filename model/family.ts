/**
 * The interface of a family of video models. The pipeline, sparse attention, the trainings and the commands know models
 * by it alone. A family is a folder such as `model/hunyuan`, and a line in `families.ts`.
 *
 * Models are those of flow matching: a noisy latent is x = (1 − σ)·x₀ + σ·noise with σ = t / 1000, and a transformer
 * predicts the velocity, noise − x₀. A family that was trained to predict something else, or is told the time in another
 * way, converts both inside its transformer.
 *
 * @module
 */
import type { Gpu } from "../gpu/gpu.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { HeadShape, TokenLayout } from "./attention/layout.ts";
import type { SelfAttention } from "./attention/method.ts";
import type { WeightsPlace } from "./blocks/weights_place.ts";
import type { CacheHooks, CacheNumbers } from "./cache/step_cache.ts";
import type { GenerationDefaults } from "./checkpoint/generation_defaults.ts";
import type { Config } from "./checkpoint/json.ts";
import type { ModelFolder } from "./checkpoint/model_folder.ts";
import type { TensorSource } from "./checkpoint/tensor_source.ts";
import type { FileStore } from "./files/store.ts";
import type { GuidedPass, PassName } from "./guidance.ts";
import type { PassConstants } from "./pass_constants.ts";
import type { OnProgress } from "./progress.ts";
import type { ScheduledClip, SchedulerConfig } from "./schedulers/config.ts";
import type { Preset } from "./schedulers/presets.ts";
import type { SigmaGrid } from "./schedulers/sigmas.ts";
import type { OpenTextEncoder, TextEncodeOptions } from "./text_encoder.ts";
import type { ClipPictures, ImageNeeds } from "./pictures_of_clip.ts";
import type { LatentRgb } from "./vae/latent_rgb.ts";
import type { StillClip } from "./vae/still_clip.ts";
import type { ClipMultiples, ClipSize } from "./video_size.ts";
import type { WeightOptions, WeightOptionsOf } from "./weights/weight_options.ts";

/** A family of models. */
export interface Family {
  /** The name in messages: "Wan 2.1". */
  readonly name: string;
  /** The class of the transformer in `model_index.json`, by which a model's family is found. */
  readonly transformerClass: string;
  /** The class of the pipeline in `model_index.json`. */
  readonly pipelineClass: string;
  /** Its distilled models, by the class of their pipelines. */
  readonly distilled?: Readonly<Record<string, Distilled>>;
  /** The parts of a model, by the names of their folders. */
  readonly parts: Readonly<Record<string, ModelPart>>;
  /** Models in the diffusers layout on Hugging Face, the smallest first: messages advise to download one. */
  readonly models?: readonly string[];
  /** Defaults of what a model's `generation.json` does not say. */
  readonly defaults: GenerationDefaults;
  /** The sizes of clips that all models of the family can make. */
  readonly multiples: ClipMultiples;
  /** Which pictures a clip is made of. Default: none */
  readonly images?: ImageNeeds;
  /** What the authors of step caches measured with its models. Default: nothing, and TeaCache needs coefficients */
  readonly cacheNumbers?: CacheNumbers;
  /** The noise levels that VORTA's authors ran their routers with, where these are not the family's own. */
  readonly routersSigmas?: SigmaGrid;
  /**
   * The family as a kind of its models has it: with other parts, defaults, or another way to open them. Default: there is
   * one kind, whose pipelines are {@link pipelineClass} and those of {@link distilled}.
   *
   * @param index the contents of `model_index.json`
   * @param folder the model's folder
   * @returns undefined where it is of no such kind
   */
  kindOf?(index: Config, folder: FileStore): Promise<Family | undefined>;
  /** How models are made of loose files, such as ComfyUI's. Default: they are not */
  readonly loose?: LooseLayout;
  /**
   * Reads a model's configurations and opens its weights. Nothing is uploaded.
   *
   * @throws {TilereelError} if a part is damaged, or the parts do not fit together
   */
  open(folder: ModelFolder): Promise<FamilyModel>;
}

/** How models of a family are made of loose files. */
export interface LooseLayout {
  /** All parts that any kind of its models has. Those with `marks` are found by them. */
  readonly parts: Readonly<Record<string, ModelPart>>;
  /**
   * What the folder of a model with this transformer would say.
   *
   * @throws {TilereelError} if there is no such model, or it has two transformers
   */
  modelOf(transformer: LooseTransformer): LooseModel;
}

/** A transformer of which a model is to be made. */
export interface LooseTransformer {
  /** Names it in messages. */
  readonly path: string;
  /** Under the family's names. */
  readonly weights: TensorSource;
  /** What its `config.json` would say. */
  readonly config: Config;
  /** Whether there is another for low noise. */
  readonly two: boolean;
}

/** What a folder in the diffusers layout would say of a model, but for its parts. */
export interface LooseModel {
  /** The contents of `model_index.json`. */
  readonly index: Readonly<Record<string, unknown>>;
  /** The contents of `scheduler_config.json`. */
  readonly scheduler: Readonly<Record<string, unknown>>;
  /** The model in the diffusers layout on Hugging Face that has the same other parts. */
  readonly like: string;
  /** Whether a part belongs to it, by what its `config.json` would say. */
  fits(part: string, config: Config): boolean;
}

/** Models of a family that were distilled to few steps, and what they were trained for. */
export interface Distilled {
  /** The name in messages. */
  readonly name: string;
  readonly preset: Preset;
  /** The sparsity of their video sparse attention, if they have it. */
  readonly sparsity?: number;
  /** The same for models with other numbers of layers, where it differs. */
  readonly sparsityByLayers?: Readonly<Record<number, number>>;
}

/** A part of a model, as its folder has it. */
export interface ModelPart {
  /** The classes that it may have in `model_index.json`. Default: any */
  readonly classes?: readonly string[];
  /** Whether a model can be opened without it. Its absence is reported when it is needed. */
  readonly optional?: boolean;
  /** The options that can replace it: another text encoder, or the embeddings of a prompt. */
  readonly replacedBy?: readonly ("textEncoder" | "embeddings")[];
  /** Present where it has weights. */
  readonly weights?: PartWeights;
}

/** A tensor of the family that a file has as some rows of a larger one, as the queries in `qkv`. */
export interface FusedTensor {
  readonly name: string;
  /** The number of its rows in proportion to those of the others. Default: 1 */
  readonly share?: number;
}

/** The weights of a part: how they are opened, and how they are uploaded, for a description of the model. */
export interface PartWeights {
  /** The names of their files begin with this. */
  readonly stem: string;
  /**
   * Gives the family's name of a tensor from its name in a file, which may have another layout; see `layoutNames`. The
   * file is a checkpoint, or a LoRA, of which it is given the names of the weights that are changed: a layer's name with
   * ".weight" or ".bias". A name that it does not know stays as it is. Where the file has several of the family's tensors
   * as one, it gives all of them, in the order of their rows.
   */
  readonly names?: (stored: string) => string | readonly FusedTensor[];
  /**
   * In files where the rows of a head come in pairs, one of each half, as llama.cpp writes queries and keys for its RoPE:
   * the number of a head's rows. Undefined where they are in the family's order.
   *
   * @param name the family's
   * @param metadata the file's
   */
  readonly pairedRows?: (name: string, metadata: Readonly<Record<string, string>>) => number | undefined;
  /** Tensors of diffusers that are several of the family's, as {@link names} gives them: they are written as one. */
  readonly fused?: readonly string[];
  /** Whether a matrix, in diffusers of two axes, may be stored as a convolution with a kernel of one. */
  readonly flat?: (name: string) => boolean;
  /** The family's names of tensors that only files of this part have, by which it is found. */
  readonly marks?: readonly string[];
  /**
   * What `config.json` would say of weights that come as a single file: all that their shapes and names show.
   *
   * @param weights under the family's names
   * @param config says what shapes do not show: that of the part that they replace, or a file's own. It may be empty
   * @throws {TilereelError} if they are no such weights
   */
  readonly configFromShapes?: (weights: TensorSource, config: Config) => Readonly<Record<string, unknown>>;
  /** Finds the prefix that the names of a block's tensors share, where the part is uploaded block by block. */
  readonly block?: RegExp;
  /** Whether a tensor is uploaded at all. Default: all are */
  readonly used?: (name: string) => boolean;
  /** Whether a tensor of several axes is loaded as vectors are, in f32. */
  readonly vector?: (name: string) => boolean;
  /** Whether a matrix keeps its stored format, because its products hold their operands in f32. */
  readonly exact?: (name: string) => boolean;
  /** Whether a matrix may be held in int8: it is a large layer, and clips stay as good. Default: none is */
  readonly quantised?: (name: string) => boolean;
  /** Whether all of it is converted to f32. */
  readonly widened?: boolean;
}

/** An opened model: configurations, and weights whose headers were read. It holds files until it is disposed of. */
export interface FamilyModel extends Disposable {
  readonly family: Family;
  readonly defaults: GenerationDefaults;
  /** Present where it is a distilled model. */
  readonly distilled?: Distilled | undefined;
  readonly scheduler: SchedulerConfig;
  readonly shape: HeadShape;
  /** Which colours the latents have, for previews. Default: there are none */
  readonly latentRgb?: LatentRgb;
  /** The number of channels of a text embedding. */
  readonly textDim: number;
  /** Whether the transformer sees text tokens past a prompt's end, which are zeros. Default: they are masked */
  readonly seesPadding?: boolean;
  /** The number of channels of the prompt as one vector, where the model takes one. */
  readonly pooledDim?: number;
  /** The transformer's weights. */
  readonly weights: TensorSource;
  /** The shape of a clip's latents, [1, channels, latent frames, height, width]. The clip must fit the family's sizes. */
  latentShape(clip: ClipSize): readonly number[];
  /** The tokens of a clip. */
  layout(clip: ClipSize): TokenLayout;
  /** The most bytes that denoising a clip needs beside resident weights. */
  denoisingBytes(gpu: Gpu, clip: ClipSize): number;
  /** What should be said of a clip's schedule where the model's own settings decide it, in clauses. */
  scheduleNotes(clip: ScheduledClip): readonly string[];
  /**
   * The forward passes of each denoising step.
   *
   * @param low the scale of guidance at low noise, where the model has another one there. Default: `guidance`
   */
  passes(guidance: number, low?: number): readonly GuidedPass[];
  /**
   * What all passes are conditioned on where a clip is made of pictures, which must be those that the model takes. What
   * encodes them is on the GPU only while it does.
   *
   * @returns tensors of the caller's
   * @throws {TilereelError} if an encoder is missing, damaged or for another model, or memory runs out
   * @throws the signal's reason, if it is aborted
   */
  conditionOn?(
    gpu: Gpu,
    pictures: ClipPictures,
    clip: ClipSize,
    options?: ConditionOptions,
  ): Promise<Omit<Conditioning, "text">>;
  /**
   * Uploads the transformer's weights, or only those outside its layers if these are streamed. The model must stay open
   * as long as the transformer.
   *
   * @throws {TilereelError} if a weight is missing or does not fit, or memory runs out
   */
  loadTransformer(gpu: Gpu, options?: TransformerOptions): Promise<VideoTransformer>;
  /**
   * Uploads half of the autoencoder.
   *
   * @throws {TilereelError} as {@link loadTransformer}
   */
  loadVae(gpu: Gpu, part: VaePart, onProgress?: OnProgress): Promise<VideoVae>;
  /** The prompt encoder. Its files are opened when they are first needed. */
  promptEncoder(gpu: Gpu, options?: PromptEncoderOptions): PromptEncoder;
}

/** Options of {@link FamilyModel.conditionOn}. */
export interface ConditionOptions extends CodingOptions {
  /** How the weights of its encoders are loaded. */
  readonly weightOptions?: WeightOptionsOf | undefined;
}

/** Options of {@link FamilyModel.loadTransformer}. */
export interface TransformerOptions extends WeightOptions {
  /** Of the transformer for low noise, where there is one. Default: as the other */
  readonly lowNoise?: WeightOptions | undefined;
  /** Whether its layers are only loaded when they are needed. Default: no */
  readonly deferred?: boolean | undefined;
  /** Where its layers are kept. Default: "resident" */
  readonly place?: WeightsPlace | undefined;
  /** Told "load transformer", in bytes. */
  readonly onProgress?: OnProgress | undefined;
}

/** The halves of an autoencoder. */
export type VaePart = "encoder" | "decoder";

/** Options of {@link FamilyModel.promptEncoder}. */
export interface PromptEncoderOptions {
  /** Opens a text encoder to use instead of the model's own: where it has several, of that which makes `text`. */
  readonly openEncoder?: OpenTextEncoder | undefined;
  /** How the weights of its encoders are loaded. */
  readonly weightOptions?: WeightOptionsOf | undefined;
}

/** What a forward pass is conditioned on beside latents and timestep. A family reads what it knows. */
export interface Conditioning {
  /** [batch, text tokens, text dim], f32 */
  readonly text: Tensor;
  /** The number of text tokens that are the prompt's. The others are masked or, where a family sees them, zeros. */
  readonly textLength?: number;
  /** [batch, channels], f32: the prompt as one vector */
  readonly pooled?: Tensor;
  /** [batch, image tokens, image dim], f32 */
  readonly image?: Tensor;
  /** [batch, channels, frames, height, width], f32: channels beside those of the latents */
  readonly channels?: Tensor;
  /**
   * [1, channels, first frames, height, width], f32: the first latent frames, which are known. They take the place of
   * the noisy ones in each pass, with a timestep of 0, and in the clip.
   */
  readonly frames?: Tensor;
  /** The scale of guidance that the model was trained to be told. */
  readonly guidance?: number;
}

/** One forward pass. The batch is one in rendering and in trainings, and a family may assume so. */
export interface ForwardPass {
  /** [batch, channels, frames, height, width], f32 */
  readonly latents: Tensor;
  /** One for each batch item, from 0 to 1000. */
  readonly timesteps: readonly number[];
  readonly conditioning: Conditioning;
  /**
   * Self-attention to use instead of the family's own, which is full and attends to all tokens. Where some are padding
   * (`TokenLayout.length`), the caller must give one that masks them, as `FullAttention` and all methods do.
   */
  readonly selfAttention?: SelfAttention | undefined;
  /** Tells the passes of a step apart in profiles. Default: "prompt" */
  readonly name?: PassName | undefined;
  /** What a step cache does in this pass of this step. {@link VideoTransformer.runBlock} and trainings have none. */
  readonly cache?: CacheHooks | undefined;
  /** Where the pass keeps what is the same in all steps of a clip. Without it, everything is computed again. */
  readonly constants?: PassConstants | undefined;
}

/** A pass after its embeddings, before its first layer. */
export interface EmbeddedPass {
  /**
   * [batch, tokens, dim]: all tokens that self-attention runs over, in the order of the layout. All have one width, as
   * attention's queries have. Where text has a narrower stream of its own, its tokens take the beginning of their rows,
   * and the rest is zero.
   */
  readonly x: Tensor;
  /** What else was made, for all layers; owned as `x` is. */
  readonly tensors: readonly Tensor[];
  readonly selfAttention: SelfAttention | undefined;
  /** Its attention hook is called by the family's blocks; see `cachedAttention`. */
  readonly cache?: CacheHooks | undefined;
}

/** Runs one layer. It takes and returns [batch, tokens, dim]. */
export type RunLayer = (x: Tensor, pass: EmbeddedPass) => Tensor;

/** A loaded transformer. It predicts the velocity of a noisy latent video. */
export interface VideoTransformer extends Disposable {
  readonly shape: HeadShape;
  /**
   * Runs the forward passes of one step.
   *
   * @returns for each pass the velocity, in the shape of its latents, f32; owned by the caller
   * @throws {TilereelError} if weights cannot be read, memory runs out, or the GPU is lost
   */
  predict(passes: readonly ForwardPass[]): Promise<Tensor[]>;
  /**
   * The embedding of each timestep that VORTA's routers take: [timesteps, dim]. It is that of the timestep alone, before
   * the embeddings of guidance or of the pooled text are added, as the routers were trained.
   */
  timeEmbedding(timesteps: readonly number[]): Promise<Float32Array>;
  /** The tokens of a pass over latents of the shape [batch, channels, frames, height, width]. */
  layout(latents: readonly number[], conditioning: Conditioning): TokenLayout;
  /** Frees the weights of the layers until {@link predict} needs them again. Recorded work can still use them. */
  dropBlocks(): void;
  /** Computes what comes before the layers. The tensors belong to the enclosing scope, or to the caller. */
  embed(pass: ForwardPass): EmbeddedPass;
  /**
   * Runs one layer, whose weights must be resident. It takes and returns [batch, tokens, dim].
   *
   * @param release frees x. It is called if x is not read any more while the layer's result is not made yet
   */
  runBlock(layer: number, x: Tensor, pass: EmbeddedPass, release?: () => void): Tensor;
  /**
   * Makes one layer ready to run: where weights are streamed, it reads them.
   *
   * @param next the layer that will be asked for next, and is read meanwhile. Default: the one that follows
   * @returns runs the layer, as {@link runBlock} does, until another layer is asked for
   * @throws {TilereelError} if weights cannot be read, memory runs out, or the GPU is lost
   */
  layer(layer: number, next?: number): Promise<RunLayer>;
  /** Computes what comes after the layers: the velocity, in the shape of the latents, f32. */
  project(x: Tensor, pass: EmbeddedPass): Tensor;
}

/** Options of decoding and encoding. */
export interface CodingOptions {
  /** Told "encode" or "decode", in latent frames (of all tiles). */
  readonly onProgress?: OnProgress | undefined;
  /** Ends the work before the next chunk. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * How less memory is taken for decoding, the least last: frames go through the network one by one, which changes nothing
 * in them; pictures are cut into overlapping tiles; or into tiles of half the edge.
 */
export const FRUGAL = ["frames", "tiles", "small tiles"] as const;

/** Options of {@link VideoVae.decodeRgb8}. */
export interface DecodingOptions extends CodingOptions {
  /** Default: what fits */
  readonly frugal?: (typeof FRUGAL)[number];
}

/** Half of an autoencoder, loaded. Clips are [1, 3, frames, height, width] in −1…1. */
export interface VideoVae extends Disposable {
  /** From the transformer's latents [1, channels, …] to the autoencoder's. */
  denormalize(latents: Tensor): Tensor;
  /** From the autoencoder's latents [1, channels, …] to the transformer's. */
  normalize(latents: Tensor): Tensor;
  /** Whether latents can be decoded as a whole beside what the GPU holds now. */
  fitsWhole(latents: Tensor): boolean;
  /**
   * Decodes latents to 8-bit pictures.
   *
   * @param latents [1, channels, latent frames, height, width], f32, not normalized
   * @returns the samples [frames, height, width, 3]
   * @throws {TilereelError} if the work does not fit into memory
   * @throws the signal's reason, if it is aborted
   */
  decodeRgb8(latents: Tensor, options?: DecodingOptions): Promise<Uint8Array>;
  /** Records, for `Gpu.compileAhead`, all that {@link decodeRgb8} has kernels for. Absent: they are not compiled ahead */
  listDecoding?(latents: Tensor): void;
  /**
   * Encodes a clip.
   *
   * @param clip [1, 3, frames, height, width], f32, or one that is grey but for a few pictures
   * @returns mean and log variance of the latents, [1, channels, latent frames, height, width]; not normalized
   * @throws as {@link decodeRgb8} does
   */
  encode(
    clip: Tensor | StillClip,
    options?: CodingOptions,
  ): Promise<{ readonly mean: Tensor; readonly logvar: Tensor }>;
}

/** Embeds prompts. */
export interface PromptEncoder extends Disposable {
  /**
   * Embeds prompts.
   *
   * @param textTokens tokens that each prompt is padded or cut to
   * @param options `onNote` is told in a clause what of a prompt the model does not see
   * @returns for each prompt a batch of one; the caller's
   * @throws {TilereelError} if there is no encoder, or it does not fit the transformer
   * @throws the signal's reason, if it is aborted
   */
  encode(prompts: readonly string[], textTokens: number, options?: EncodeOptions): Promise<Conditioning[]>;
}

/** Options of {@link PromptEncoder.encode}. */
export interface EncodeOptions extends TextEncodeOptions {
  readonly onNote?: ((note: string) => void) | undefined;
}
