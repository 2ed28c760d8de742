import { NotFiniteError, TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { countNonFinite } from "../../gpu/ops/count_non_finite.ts";
import { channelAffine, clampInPlace, fill } from "../../gpu/ops/elementwise.ts";
import { cutWindow, pasteWindow } from "../../gpu/ops/frames.ts";
import { rgb8 } from "../../gpu/ops/rgb8.ts";
import { readTogether } from "../../gpu/read_together.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import type { DecodingOptions, PartWeights, VaePart, VideoVae } from "../family.ts";
import type { OnProgress } from "../progress.ts";
import {
  type Chunk,
  type ChunkRecording,
  chunksOf,
  eachChunk,
  isBlended,
  mostChunkFrames,
  type Place,
  recordKinds,
} from "./chunks.ts";
import type { Before, Pass } from "./feature_cache.ts";
import { cutStill, type StillClip } from "./still_clip.ts";
import { tilePixels, type TilePlan, tilePlan, wholePicture } from "./tiling.ts";
import { VaeWeights } from "./weights.ts";

/** Tiles in pixels, as most autoencoders have them in diffusers. */
const TILES = { size: 256, stride: 192 };
/** The most bytes of a tensor of activations before frames are worked on in smaller groups: the first that fits. */
const PIECE_BYTES = Array.from({ length: 8 }, (_, i) => 2 ** (30 - i));
/** The share of the memory that larger groups of frames may take. */
const PIECE_SHARE = 0.75;
/** So many of the clip's pixels, over all frames, go through a network whole at most: kernels count no more groups. */
const MOST_PIXELS = 2 ** 21;
/** Edge of the smallest tile in latent pixels that memory shrinks tiles to. */
const LEAST_TILE = 4;

/** How a clip is cut up on its way through. */
export interface TiledCodingOptions extends DecodingOptions {
  /**
   * Whether large pictures are worked on in overlapping tiles, whose seams are blended. "auto", the default: where they
   * would not fit the memory otherwise. Where the network has `chunks`, false sends all frames through it at once.
   */
  readonly tiling?: "auto" | boolean;
  /** Edge of a tile, and from one tile to the next, in pixels. Default: the autoencoder's */
  readonly tileSize?: number;
  readonly tileStride?: number;
  /** Bytes of a tensor of activations before frames are worked on in smaller groups: 2³⁰, or less with less memory. */
  readonly pieceBytes?: number;
}

/** The distribution of latents that a clip encodes to. */
export interface LatentDistribution {
  /** [1, latent channels, latent frames, height, width], f32 */
  readonly mean: Tensor;
  /** So too; logarithm of the variance, within −30…20. */
  readonly logvar: Tensor;
}

/** Part of the clip that is being put together. */
interface Canvas {
  /** [channels, frames, height, width] */
  readonly clip: Tensor;
  /** Which frame its first is. */
  readonly start: number;
}

/** The sizes of an autoencoder's clips and latents. */
export interface LatentSpace {
  /** The tiles that its authors cut pictures into, in pixels. Default: 256, and 192 from one to the next */
  readonly tiles?: { readonly size: number; readonly stride: number };
  /** See {@link Before}. Default: "zeros" */
  readonly before?: Before;
  /** Channels of a latent. */
  readonly zDim: number;
  /** Channels of a decoded clip. */
  readonly outChannels: number;
  /** Pixels along one edge of a latent pixel. */
  readonly spatialScale: number;
  /** Frames of a latent frame, the first excepted, which stands for one. */
  readonly temporalScale: number;
  /** Per latent channel. A latent is normalized as (z − mean) / std. */
  readonly latentsMean: readonly number[];
  readonly latentsStd: readonly number[];
}

/** Work of half of an autoencoder's network. */
export interface HalfWork {
  /** The pixels of a latent frame of the tile. */
  readonly latentPixels: number;
  /** The most latent frames of a chunk. */
  readonly frames: number;
  /** Bytes that one tensor may take before frames are worked on in smaller groups, which a network with `chunks` cannot. */
  readonly pieceBytes: number;
}

/** What such work holds, in bytes. */
export interface HalfMemory {
  /** The largest tensor. */
  readonly largest: number;
  /** All of it, weights excepted. */
  readonly held: number;
}

/** Half of an autoencoder's network. */
interface Half {
  memory(work: HalfWork): HalfMemory;
  /**
   * For a network that sees a chunk whole: the chunks that a clip goes through in, in order. They overlap where they are
   * tiles in time. If they would not fit the memory, tiles are made smaller. Default: {@linkcode chunksOf}
   */
  chunks?(latentFrames: number): readonly Chunk[];
}

/** How a clip is cut in space and in time. */
interface Cut {
  readonly plan: TilePlan;
  readonly chunks: readonly Chunk[];
  /** Bytes that one tensor may take before frames are worked on in smaller groups. */
  readonly pieceBytes: number;
}

/** The encoder's network. */
export interface ChunkEncoder extends Half {
  /**
   * Records the encoding of a chunk.
   *
   * @param frames [frames, height, width, 4], taken over: the clip's first frame, or as many of those that follow as
   * make whole latent frames
   * @returns [latent frames, height, width, 2·latent channels]: means, then logarithms of variances
   */
  forward(pass: Pass, frames: Tensor): Tensor;
}

/** The decoder's network. */
export interface ChunkDecoder extends Half {
  /**
   * Records the decoding of a chunk.
   *
   * @param latents [frames, height, width, channels]: the clip's first frame, or any number of those that follow
   * @param emit given the frames [frames, height, width, 4] in order, group by group, or all at once where chunks
   * overlap; freed behind it
   */
  forward(pass: Pass, latents: Tensor, emit: (frames: Tensor) => void): void;
}

/** The parts of a {@link CausalAutoencoder}. */
export interface AutoencoderParts extends Disposable {
  readonly encoder: ChunkEncoder | undefined;
  readonly decoder: ChunkDecoder | undefined;
}

/** The prefix of the tensor names of each half. */
const PREFIXES = { encoder: ["encoder.", "quant_conv."], decoder: ["decoder.", "post_quant_conv."] };

/** How its files are read. Only the decoder is needed to render, and it is converted to f32. */
export const AUTOENCODER_WEIGHTS: PartWeights = {
  stem: "diffusion_pytorch_model",
  used: (name) => !PREFIXES.encoder.some((prefix) => name.startsWith(prefix)),
  widened: true,
};

/**
 * Loads the networks of an autoencoder to the GPU.
 *
 * @param load loads each half
 * @param onProgress told "load vae", in tensors
 * @param parts what is needed; both where absent
 */
export async function loadParts(
  gpu: Gpu,
  source: TensorSource,
  load: {
    encoder(weights: VaeWeights): Promise<ChunkEncoder>;
    decoder(weights: VaeWeights): Promise<ChunkDecoder>;
  },
  onProgress: OnProgress | undefined,
  parts: readonly VaePart[] = ["encoder", "decoder"],
): Promise<AutoencoderParts> {
  using loading = new DisposableStack();
  const weights = loading.use(VaeWeights.open(gpu, source, parts.flatMap((part) => PREFIXES[part]), onProgress));
  const encoder = parts.includes("encoder") ? await load.encoder(weights) : undefined;
  const decoder = parts.includes("decoder") ? await load.decoder(weights) : undefined;
  const owned = loading.move();
  return { encoder, decoder, [Symbol.dispose]: () => owned.dispose() };
}

/**
 * The base of video autoencoders with causal convolutions. A clip, [1, 3, frames, height, width] in −1…1, goes through
 * encoder or decoder tile by tile, and each tile chunk by chunk in time; the batch is always 1.
 */
export class CausalAutoencoder implements VideoVae {
  /** @param parts taken over */
  constructor(private readonly gpu: Gpu, readonly config: LatentSpace, private readonly parts: AutoencoderParts) {}

  [Symbol.dispose](): void {
    this.parts[Symbol.dispose]();
  }

  /** Frames of the clip that so many latent frames stand for. */
  framesOf(latentFrames: number): number {
    return (latentFrames - 1) * this.config.temporalScale + 1;
  }

  /** From the transformer's latents [1, channels, ...] to the autoencoder's: z · std + mean. */
  denormalize(latents: Tensor): Tensor {
    const { latentsMean, latentsStd } = this.config;
    return this.#affine(latents, latentsStd, latentsMean);
  }

  /** From the autoencoder's latents [1, channels, ...] to the transformer's: (z − mean) / std. */
  normalize(latents: Tensor): Tensor {
    const { latentsMean, latentsStd } = this.config;
    return this.#affine(
      latents,
      latentsStd.map((std) => 1 / std),
      latentsMean.map((mean, c) => -mean / latentsStd[c]!),
    );
  }

  /**
   * Decodes latents.
   *
   * @param latents [1, channels, latent frames, height, width], f32, not normalized
   * @returns [1, 3, frames, 8·height, 8·width], f32, within −1…1
   * @throws {TilereelError} if the clip does not fit into one tensor, or the work not into memory
   * @throws the signal's reason, if it is aborted
   */
  async decode(latents: Tensor, options: TiledCodingOptions = {}): Promise<Tensor> {
    const { gpu } = this;
    const shape = this.#clipShape(latents);
    const clip = gpu.tensor(shape, "f32", "the decoded clip");
    try {
      const cut = this.#cut(latents.shape.slice(2), this.#decoder, options), blended = isBlended(cut.plan, cut.chunks);
      if (blended) fill(gpu, clip, 0);
      await this.#decode(latents, cut, options, () => ({ clip, start: 0 }), () => gpu.finish());
      if (blended) clampInPlace(gpu, clip, -1, 1);
      return clip.reshape([1, ...shape]);
    } catch (error) {
      gpu.release(clip);
      throw error;
    }
  }

  /**
   * Decodes latents to 8-bit pictures. Finished frames leave the GPU chunk by chunk, so the clip as a whole need not
   * fit. Where only pictures are cut into tiles, and not time, it lies there until the last tile is done, in one tensor a
   * chunk.
   *
   * @param latents as in {@link decode}
   * @returns the samples [frames, height, width, 3]
   * @throws {TilereelError} if the work does not fit into memory
   * @throws the signal's reason, if it is aborted
   */
  async decodeRgb8(latents: Tensor, given: TiledCodingOptions = {}): Promise<Uint8Array> {
    const { gpu } = this, options = { ...given, ...this.#frugal(given) };
    const [channels, frames, height, width] = this.#clipShape(latents);
    const frameSamples = height * width * channels;
    const cut = this.#cut(latents.shape.slice(2), this.#decoder, options, 4 * frameSamples);
    const blended = isBlended(cut.plan, cut.chunks);
    const video = new Uint8Array(frames * frameSamples);
    const canvases = new Map<Chunk, Tensor>();
    /** By chunk, how many samples are no numbers. Read at the end: each read is a wait. */
    const counts: Tensor[] = [];
    const canvasOf = (chunk: Chunk): Canvas => {
      const { skip = 0 } = chunk.tile ?? {};
      let clip = canvases.get(chunk);
      if (!clip) canvases.set(chunk, clip = canvas(gpu, [channels, chunk.count - skip, height, width], blended));
      return { clip, start: chunk.start + skip };
    };
    const finish = async (chunk: Chunk, lastTile: boolean) => {
      if (!lastTile) return await gpu.finish();
      counts.push(gpu.scope(() => countNonFinite(gpu, canvasOf(chunk).clip)));
      const { clip, start } = canvasOf(chunk), done = chunk.tile?.stride ?? chunk.count;
      const packed = rgb8(gpu, clip), reading = gpu.readBytes(packed);
      gpu.release(packed);
      // The frames behind are finished by the next tile in time.
      const next = cut.chunks[cut.chunks.indexOf(chunk) + 1];
      if (chunk.tile && next) copyFrames(gpu, clip, done, canvasOf(next).clip);
      gpu.release(clip);
      canvases.delete(chunk);
      const bytes = new Uint8Array(await reading);
      video.set(bytes.subarray(0, done * frameSamples), start * frameSamples);
    };
    try {
      await this.#decode(latents, cut, options, canvasOf, finish);
      // As f32 these counts are tiny, but no zeros.
      if ((await readTogether(gpu, counts)).some((count) => count.some((found) => found !== 0))) {
        throw new NotFiniteError(
          "decoding gave samples that are no numbers, and no clip: " +
            (gpu.f16 ? "try precision f32; if that changes nothing " : "") + "the VAE's weights are damaged",
        );
      }
      return video;
    } finally {
      for (const tensor of [...canvases.values(), ...counts]) gpu.release(tensor);
    }
  }

  /** Records what {@link decodeRgb8} has kernels for, in an order of its own and without a result. */
  listDecoding(latents: Tensor): void {
    const { gpu } = this, [channels, , height, width] = this.#clipShape(latents);
    const cut = this.#cut(latents.shape.slice(2), this.#decoder, {}, 4 * channels * height * width);
    const blended = isBlended(cut.plan, cut.chunks);
    const canvasOf = ({ start, count, tile }: Chunk): Canvas => {
      const { skip = 0 } = tile ?? {};
      return { clip: canvas(gpu, [channels, count - skip, height, width], blended), start: start + skip };
    };
    gpu.scope(() => {
      recordKinds(gpu, this.#decoding(latents, cut, canvasOf));
      const { clip } = canvasOf(cut.chunks[0]!);
      countNonFinite(gpu, clip);
      rgb8(gpu, clip);
    });
  }

  /** What less memory means here. */
  #frugal({ frugal }: TiledCodingOptions): TiledCodingOptions {
    if (frugal === undefined) return {};
    const { size, stride } = this.config.tiles ?? TILES, pieceBytes = 0;
    if (frugal === "frames") return { pieceBytes };
    const share = frugal === "small tiles" ? 0.5 : 1;
    return { pieceBytes, tiling: true, tileSize: share * size, tileStride: share * stride };
  }

  /**
   * Whether latents can be decoded without tiles beside what the GPU holds now.
   *
   * @param latents [1, channels, latent frames, height, width]
   */
  fitsWhole(latents: Tensor): boolean {
    const [frames, height, width] = latents.shape.slice(2) as [number, number, number];
    const half = this.#decoder, pixels = height * width;
    const chunkFrames = mostFrames(half.chunks?.(frames)) ?? mostChunkFrames(this.gpu, frames, pixels);
    return half.memory({ latentPixels: pixels, frames: chunkFrames, pieceBytes: 0 }).held <= this.#available();
  }

  /**
   * Encodes a clip. As in the reference, frames behind the last whole group of `temporalScale` are left out.
   *
   * @param clip [1, 3, frames, height, width], f32, within −1…1, or one that is grey but for a few pictures; height and
   * width multiples of `spatialScale`
   * @throws {TilereelError} if the picture has another size, or the work does not fit into memory
   * @throws the signal's reason, if it is aborted
   */
  async encode(clip: Tensor | StillClip, options: TiledCodingOptions = {}): Promise<LatentDistribution> {
    const { gpu } = this;
    const { encoder } = this.parts;
    if (!encoder) throw new Error("the encoder was not loaded");
    const { zDim, spatialScale: scale, temporalScale } = this.config;
    const [frames, height, width] = clip.shape.slice(2) as [number, number, number];
    if (height % scale !== 0 || width % scale !== 0) {
      throw new TilereelError(
        `the clip is ${width}x${height}, but the VAE encodes multiples of ${scale} only: crop or resize it`,
      );
    }
    const latentFrames = 1 + Math.floor((frames - 1) / temporalScale);
    const { plan, chunks, pieceBytes } = this.#cut([latentFrames, height / scale, width / scale], encoder, options);
    const video = "pictures" in clip ? clip : clip.reshape(clip.shape.slice(1));
    const moments = gpu.tensor([2 * zDim, latentFrames, height / scale, width / scale]);
    try {
      if (isBlended(plan, chunks)) fill(gpu, moments, 0);
      await eachChunk(gpu, {
        stage: "encode",
        plan,
        ...{ scale: 1, timeScale: 1, before: this.config.before },
        chunks,
        pieceBytes,
        options,
        record: (pass, { start, count, latentStart, tile }, place) => {
          const part = { frame: start, frames: count, ...pixelsOf(place, scale) };
          const window = "pictures" in video ? cutStill(gpu, video, part) : cutWindow(gpu, video, part);
          const { weights } = place, { skip = 0 } = tile ?? {};
          const at = { frame: latentStart + skip, ...pixelsOf(place, 1) };
          pasteWindow(gpu, encoder.forward(pass, window), moments, at, { skip, ...weights && { weights } });
        },
        finish: () => gpu.finish(),
      });
      const shape = [1, zDim, ...moments.shape.slice(1)];
      const mean = gpu.tensor(shape), logvar = gpu.tensor(shape);
      gpu.copy(moments.slice(0, zDim), mean);
      gpu.copy(moments.slice(zDim, zDim), logvar);
      clampInPlace(gpu, logvar, -30, 20);
      return { mean, logvar };
    } finally {
      gpu.release(moments);
    }
  }

  get #decoder(): ChunkDecoder {
    const { decoder } = this.parts;
    if (!decoder) throw new Error("the decoder was not loaded");
    return decoder;
  }

  /** [channels, frames, height, width] of what latents decode to */
  #clipShape(latents: Tensor): [number, number, number, number] {
    const { outChannels, spatialScale } = this.config;
    const [frames, height, width] = latents.shape.slice(2) as [number, number, number];
    return [outChannels, this.framesOf(frames), height * spatialScale, width * spatialScale];
  }

  async #decode(
    latents: Tensor,
    cut: Cut,
    options: TiledCodingOptions,
    canvasOf: (chunk: Chunk) => Canvas,
    finish: (chunk: Chunk, lastTile: boolean) => Promise<void>,
  ): Promise<void> {
    await eachChunk(this.gpu, { stage: "decode", options, ...this.#decoding(latents, cut, canvasOf), finish });
  }

  /** How the chunks of latents are decoded. */
  #decoding(latents: Tensor, cut: Cut, canvasOf: (chunk: Chunk) => Canvas): ChunkRecording {
    const { gpu } = this, decoder = this.#decoder;
    const { spatialScale: scale, temporalScale: timeScale, before } = this.config;
    const z = latents.reshape(latents.shape.slice(1));
    return {
      ...{ ...cut, scale, timeScale, before },
      begin: canvasOf,
      record: (pass, chunk, place) => {
        const { clip, start } = canvasOf(chunk), { weights } = place;
        const { latentStart, latentCount } = chunk;
        const window = cutWindow(gpu, z, { frame: latentStart, frames: latentCount, ...pixelsOf(place, 1) });
        let { skip = 0 } = chunk.tile ?? {};
        let frame = chunk.start + skip - start;
        decoder.forward(pass, window, (frames) => {
          const how = { skip, ...weights ? { weights } : { limit: 1 } };
          pasteWindow(gpu, frames, clip, { frame, ...pixelsOf(place, scale) }, how);
          frame += frames.dim(0) - skip;
          skip = 0;
        });
      },
    };
  }

  /**
   * How a clip of [latent frames, latent height, latent width] is cut into tiles and chunks.
   *
   * @param frameBytes of a decoded frame, if chunks are still to be put together on the GPU
   */
  #cut(size: readonly number[], half: Half, options: TiledCodingOptions, frameBytes = 0): Cut {
    const [frames, height, width] = size as [number, number, number], { temporalScale } = this.config;
    const chosen = options.tiling === false && half.chunks
      ? [{ latentStart: 0, latentCount: frames, start: 0, count: this.framesOf(frames) }]
      : half.chunks?.(frames);
    // A chunk, and the next one or the samples of 8 bits.
    const pieced = chosen ? 2 * frameBytes * Math.max(...chosen.map(({ count }) => count)) : 0;
    const work = (plan: TilePlan): HalfWork => {
      const latentPixels = tilePixels(plan);
      const most = mostFrames(chosen) ?? mostChunkFrames(this.gpu, frames, latentPixels);
      return { latentPixels, frames: most, pieceBytes: options.pieceBytes ?? 0 };
    };
    const plan = this.#plan(height, width, half, work, pieced, options);
    const chunks = chosen ?? chunksOf(this.gpu, frames, tilePixels(plan), temporalScale);
    return { plan, chunks, pieceBytes: options.pieceBytes ?? this.#pieceBytes(work(plan), half) };
  }

  /** Whether and how a picture of so many latent pixels is tiled. */
  #plan(
    height: number,
    width: number,
    half: Half,
    work: (plan: TilePlan) => HalfWork,
    reserved: number,
    options: TiledCodingOptions,
  ): TilePlan {
    const { gpu, config: { spatialScale: scale, tiles = TILES } } = this;
    const { tiling = "auto", tileSize = tiles.size, tileStride = tiles.stride } = options;
    const whole = wholePicture(height, width);
    let size = Math.floor(tileSize / scale), stride = Math.floor(tileStride / scale);
    const isSmall = height <= size && width <= size;
    if (tiling === false || isSmall && (tiling === true || !half.chunks)) return whole;
    const fits = (plan: TilePlan) => {
      const task = work(plan), pixels = this.framesOf(task.frames) * task.latentPixels * scale ** 2;
      if (half.chunks && pixels > MOST_PIXELS) return false;
      const { largest, held } = half.memory(task);
      return largest <= gpu.maxTensorBytes && reserved + held <= this.#available();
    };
    if (tiling === "auto" && fits(whole)) return whole;
    let plan = tilePlan(height, width, size, stride);
    // Work on a chunk that the network sees whole cannot be split in any other way.
    while (half.chunks && tiling === "auto" && size >= 2 * LEAST_TILE && !fits(plan)) {
      [size, stride] = [Math.floor(size / 2), Math.floor(stride / 2)];
      plan = tilePlan(height, width, size, stride);
    }
    return plan;
  }

  /** The most bytes that a tensor may take, so that work leaves some memory free; 0 where frames go one by one. */
  #pieceBytes(work: HalfWork, half: Half): number {
    const most = this.#available() * PIECE_SHARE;
    const fitting = PIECE_BYTES.find((pieceBytes) => half.memory({ ...work, pieceBytes }).held <= most);
    return half.chunks ? 0 : fitting ?? 0;
  }

  /** Bytes that may be taken, as far as is known. */
  #available(): number {
    const { gpu } = this;
    return gpu.memoryBudget - gpu.memory.used;
  }

  #affine(latents: Tensor, scale: readonly number[], shift: readonly number[]): Tensor {
    const { gpu } = this;
    const vector = (values: readonly number[]) => gpu.upload(Float32Array.from(values), [values.length]);
    return gpu.scope(() => channelAffine(gpu, latents, vector(scale), vector(shift)));
  }
}

/** Makes what decoded frames go into; the caller's. */
function canvas(gpu: Gpu, shape: readonly number[], blended: boolean): Tensor {
  const clip = gpu.tensor(shape, "f32", "decoded frames");
  if (blended) fill(gpu, clip, 0);
  return clip;
}

/** Latent frames of the largest chunk, if chunks are given. */
function mostFrames(chunks: readonly Chunk[] | undefined): number | undefined {
  return chunks && Math.max(1, ...chunks.map(({ latentCount }) => latentCount));
}

/** Copies the frames from `first` on of [channels, frames, height, width] to the beginning of another such clip. */
function copyFrames(gpu: Gpu, from: Tensor, first: number, to: Tensor): void {
  const frames = (clip: Tensor) => clip.reshape([clip.dim(0) * clip.dim(1), ...clip.shape.slice(2)]);
  const count = from.dim(1) - first;
  for (let c = 0; c < from.dim(0); c++) {
    gpu.copy(frames(from).slice(c * from.dim(1) + first, count), frames(to).slice(c * to.dim(1), count));
  }
}

/** A tile's place in a picture of `scale` pixels along one edge of a latent pixel. */
function pixelsOf({ row, column }: Place, scale: number) {
  return {
    top: row.start * scale,
    left: column.start * scale,
    height: row.length * scale,
    width: column.length * scale,
  };
}
