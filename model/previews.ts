import { DeviceLostError, OutOfMemoryError, TilereelError } from "../gpu/common/errors.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { GenerateOptions, VideoPipeline } from "./pipeline.ts";
import type { Video } from "./video/video.ts";

/** The share of a clip's time that its previews may take. The first preview is made in any case. */
const SHARE = 0.02;
/** The longest edge of a preview in pixels, and its frames a second. */
const EDGE = 320, FPS = 8;

/** What previews are shown by, and how. */
export interface PreviewOptions {
  /** Frames a second of the clip. Default: the model's */
  readonly fps?: number | undefined;
  /**
   * Shows a preview, of up to 320 pixels along its longer edge.
   *
   * @param step the step that predicts the clip so, from 0
   */
  readonly show: (preview: Video, step: number) => Promise<unknown> | unknown;
  /** Told in a clause why there is none. */
  readonly onNote?: ((note: string) => void) | undefined;
  /** Milliseconds, of this machine's clock by default. */
  readonly now?: () => number;
}

/** Shows a clip while it forms, as often as that takes no more than 2 % of the time. */
export class Previews {
  readonly #now: () => number;
  readonly #start: number;
  /** Milliseconds that all took, and the last one. */
  #spent = 0;
  #last = 0;
  #showing: Promise<void> | undefined;
  #ended = false;

  constructor(private readonly pipeline: VideoPipeline, private readonly options: PreviewOptions) {
    this.#now = options.now ?? (() => performance.now());
    this.#start = this.#now();
  }

  /** For {@link GenerateOptions.onPreview}. It waits only where a decoder works on the GPU. */
  readonly onPreview: NonNullable<GenerateOptions["onPreview"]> = async (clean: Tensor, step: number) => {
    if (this.#ended || this.#showing || this.#spent + this.#last > SHARE * (this.#now() - this.#start)) return;
    const { pipeline, options: { fps, onNote } } = this, begun = this.#now();
    const made = pipeline.preview(clean, fps), decodes = pipeline.decodesPreviews;
    if (decodes) await made.catch(() => {/* told below */});
    const decoding = decodes ? this.#now() - begun : 0;
    this.#showing = made.then((preview) => this.#show(preview, step, decoding)).catch((error) => {
      // The clip goes on with less memory, or fails by itself.
      if (error instanceof OutOfMemoryError || error instanceof DeviceLostError) return;
      this.#ended = true;
      if (!(error instanceof TilereelError)) throw error;
      onNote?.(`there are no more previews: ${error.message}`);
    }).finally(() => this.#showing = undefined);
    this.#showing.catch(() => {/* thrown by end() */});
  };

  /** Waits for what is being shown; nothing is shown afterwards. */
  async end(): Promise<void> {
    this.#ended = true;
    await this.#showing;
  }

  async #show(preview: Video | undefined, step: number, decoding: number): Promise<void> {
    if (!preview) {
      this.#ended = true;
      this.options.onNote?.(
        "which colours this model's latents have is not known, so there are no previews without a tiny autoencoder",
      );
      return;
    }
    const begun = this.#now();
    await this.options.show(fitted(preview), step);
    this.#last = decoding + this.#now() - begun;
    this.#spent += this.#last;
  }
}

/** The same in a size and with as many frames as a preview has: enlarged by a whole number, or made smaller. */
export function fitted(video: Video): Video {
  const longest = Math.max(video.width, video.height);
  const scale = longest > EDGE ? EDGE / longest : Math.floor(EDGE / longest);
  const [width, height] = [video.width, video.height].map((edge) => Math.max(1, Math.round(edge * scale))) as [
    number,
    number,
  ];
  const every = Math.max(1, Math.ceil(video.fps / FPS)), frames = Math.ceil(video.frames / every);
  const data = new Uint8Array(frames * width * height * 3);
  const columns = samplesOf(video.width, width), rows = samplesOf(video.height, height);
  let at = 0;
  for (let frame = 0; frame < frames; frame++) {
    const start = frame * every * video.height;
    for (const [top, bottom, down] of rows) {
      for (const [left, right, across] of columns) {
        for (let c = 0; c < 3; c++) {
          const sample = (row: number, column: number) => video.data[((start + row) * video.width + column) * 3 + c]!;
          const above = sample(top, left) + across * (sample(top, right) - sample(top, left));
          const below = sample(bottom, left) + across * (sample(bottom, right) - sample(bottom, left));
          data[at++] = Math.round(above + down * (below - above));
        }
      }
    }
  }
  return { width, height, frames, fps: video.fps / every, data };
}

/** For each of `count` pixels, the two of `from` that it lies between, and how far towards the second. */
function samplesOf(from: number, count: number): [number, number, number][] {
  return Array.from({ length: count }, (_, i) => {
    const place = Math.min(Math.max((i + 0.5) * from / count - 0.5, 0), from - 1), first = Math.floor(place);
    return [first, Math.min(first + 1, from - 1), place - first];
  });
}
