/// <reference lib="dom" />
import type { TileMapContents } from "../../model/veda/tile_map.ts";
import { element } from "../web/elements.ts";
import { ask, contentOf, type VideoJob } from "./api.ts";
import { framesAt } from "./frames_of.ts";

/** Which tiles a head selected, as the server has it. */
interface MaskAnswer {
  readonly counts: readonly [number, number, number];
  readonly shape: readonly [number, number, number];
  readonly mask: string;
}

/** Pixels of a picture along its longer edge, so that lines are sharp. */
const EDGE = 480;
/** How dark tiles are that the query does not look at, and how strong the colour of those that it looks at. */
const SHADE = "rgb(0 0 0 / 65%)", TINT = 0.35;

/** Which tiles of a clip a chosen one looks at, drawn over its frames: a picture for each tile along time. */
export class TileView {
  readonly #pictures = element("div", { className: "pictures" });
  readonly #said = element("p", { className: "note" });
  readonly #sliders;
  #mask: MaskAnswer | undefined;
  #bits: Uint8Array | undefined;
  #frames: readonly ImageBitmap[] = [];
  #canvases: readonly HTMLCanvasElement[] = [];
  #asked = 0;

  private constructor(
    place: HTMLElement,
    private readonly job: VideoJob,
    private readonly map: TileMapContents,
  ) {
    const { steps, layers, heads } = map, middle = (list: readonly number[]) => Math.floor(list.length / 2);
    this.#sliders = {
      step: slider("Step", steps.length, middle(steps), (at) => String(steps[at]! + 1), () => this.#load()),
      layer: slider("Layer", layers.length, middle(layers), (at) => String(layers[at]), () => this.#load()),
      head: slider("Head", heads, 0, String, () => this.#load()),
      time: slider("Tile in time", 1, 0, (at) => String(at + 1), () => this.#draw()),
      row: slider("Row", 1, 0, (at) => String(at + 1), () => this.#draw()),
      column: slider("Column", 1, 0, (at) => String(at + 1), () => this.#draw()),
    };
    this.#said.setAttribute("role", "status");
    const fields = element("div", { className: "sliders" });
    fields.append(...Object.values(this.#sliders).map(({ label }) => label));
    place.append(
      element("p", {
        className: "note",
        textContent:
          "Press on a picture to choose a tile. What it looks at is coloured, in all frames; the rest is dark.",
      }),
      fields,
      this.#said,
      this.#pictures,
    );
  }

  /**
   * Shows the map of a clip.
   *
   * @throws an error with the server's sentence
   */
  static async open(place: HTMLElement, job: VideoJob): Promise<void> {
    const map = await ask<TileMapContents>(`/v1/videos/${job.id}/tiles`);
    await new TileView(place, job, map).#load();
  }

  /** Asks for the selections of the chosen step, layer and head. */
  async #load(): Promise<void> {
    const { step, layer, head } = this.#sliders, { steps, layers } = this.map, asked = ++this.#asked;
    const path = `${steps[step.value]}/${layers[layer.value]}/${head.value}`;
    const mask = await ask<MaskAnswer>(`/v1/videos/${this.job.id}/tiles/${path}`).catch((error: Error) => error);
    // Another may have been chosen meanwhile.
    if (asked !== this.#asked) return;
    if (mask instanceof Error) {
      [this.#mask, this.#bits] = [undefined, undefined];
      this.#draw(mask.message);
      return;
    }
    const isNew = String(mask.counts) !== String(this.#mask?.counts);
    [this.#mask, this.#bits] = [mask, Uint8Array.fromBase64(mask.mask)];
    if (isNew) await this.#lay(mask);
    this.#draw();
  }

  /** Makes a picture for each tile along time, of the frame in its middle. */
  async #lay({ counts: [times, rows, columns], shape: [length] }: MaskAnswer): Promise<void> {
    const { grid: [latents] } = this.map, { frames, fps } = this.job.tilereel, { time, row, column } = this.#sliders;
    for (const [{ input }, count] of [[time, times], [row, rows], [column, columns]] as const) {
      const old = Number(input.max) + 1;
      input.max = String(count - 1);
      input.value = String(Math.min(count - 1, Math.floor((Number(input.value) + 0.5) / old * count)));
      input.disabled = count === 1;
    }
    const middles = Array.from({ length: times }, (_, i) => {
      const [first, last] = [i * length, Math.min(latents, (i + 1) * length) - 1];
      return latents === 1 ? 0 : Math.round((first + last) / 2 * (frames - 1) / (latents - 1));
    });
    const pictures = await framesAt(contentOf(this.job.id), middles, fps);
    for (const old of this.#frames) old.close();
    this.#frames = pictures;
    this.#canvases = this.#frames.map(({ width, height }, i) => {
      const scale = EDGE / Math.max(width, height);
      const canvas = element("canvas", { width: Math.round(width * scale), height: Math.round(height * scale) });
      canvas.setAttribute("role", "img");
      canvas.addEventListener("click", (event) => {
        const across = event.offsetX / canvas.clientWidth, down = event.offsetY / canvas.clientHeight;
        this.#choose(i, this.#rowAt(down), this.#columnAt(across));
      });
      return canvas;
    });
    this.#pictures.replaceChildren(...this.#canvases.map((canvas, i) => {
      const figure = element("figure");
      figure.append(canvas, element("figcaption", { textContent: `frame ${middles[i]! + 1}` }));
      return figure;
    }));
  }

  /** The row of tiles at a share of the height. */
  #rowAt(share: number): number {
    return Math.min(
      this.#mask!.counts[1] - 1,
      Math.max(0, Math.floor(share * this.map.grid[1] / this.#mask!.shape[1])),
    );
  }

  /** The column of tiles at a share of the width. */
  #columnAt(share: number): number {
    return Math.min(
      this.#mask!.counts[2] - 1,
      Math.max(0, Math.floor(share * this.map.grid[2] / this.#mask!.shape[2])),
    );
  }

  #choose(time: number, row: number, column: number): void {
    const { time: t, row: r, column: c } = this.#sliders;
    for (const [{ input }, value] of [[t, time], [r, row], [c, column]] as const) input.value = String(value);
    this.#draw();
  }

  /** @param why there is nothing to draw */
  #draw(why = ""): void {
    for (const { show } of Object.values(this.#sliders)) show();
    const mask = this.#mask, bits = this.#bits;
    if (!mask || !bits) {
      this.#said.textContent = why;
      for (const [i, canvas] of this.#canvases.entries()) draw(canvas, this.#frames[i]!, []);
      return;
    }
    const { counts: [times, rows, columns], shape } = mask, count = times * rows * columns, { grid } = this.map;
    const { time, row, column } = this.#sliders, query = (time.value * rows + row.value) * columns + column.value;
    const width = Math.ceil(count / 8),
      looksAt = (key: number) => (bits[query * width + (key >> 3)]! >> (key & 7) & 1) > 0;
    const chosen = Array.from({ length: count }, (_, key) => looksAt(key)), total = chosen.filter(Boolean).length;
    for (const [at, canvas] of this.#canvases.entries()) {
      const from = at * rows * columns, own = chosen.slice(from, from + rows * columns);
      const tiles = own.map((isChosen, i): DrawnTile => {
        const [r, c] = [Math.floor(i / columns), i % columns];
        const edges = [
          c * shape[2] / grid[2],
          r * shape[1] / grid[1],
          (c + 1) * shape[2] / grid[2],
          (r + 1) * shape[1] / grid[1],
        ];
        const [left, top, right, bottom] = edges.map((edge) => Math.min(1, edge)) as [number, number, number, number];
        return { left, top, right, bottom, isChosen, isQuery: from + i === query };
      });
      draw(canvas, this.#frames[at]!, tiles);
      const here = own.filter(Boolean).length;
      canvas.setAttribute("aria-label", `It looks at ${here} of ${own.length} tiles here`);
    }
    this.#said.textContent = `Tile ${query + 1} of ${count} looks at ${total} ${total === 1 ? "tile" : "tiles"}, ${
      (100 * total / count).toFixed(0)
    } %: ${
      this.#canvases.map((_, at) => chosen.slice(at * rows * columns, (at + 1) * rows * columns).filter(Boolean).length)
        .join(", ")
    } in the pictures.`;
  }
}

/** A tile in a picture: its edges are shares of the picture's. */
interface DrawnTile {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
  readonly isChosen: boolean;
  readonly isQuery: boolean;
}

function draw(canvas: HTMLCanvasElement, frame: ImageBitmap, tiles: readonly DrawnTile[]): void {
  const context = canvas.getContext("2d")!,
    style = getComputedStyle(document.documentElement),
    { width, height } = canvas;
  context.imageSmoothingEnabled = false;
  context.drawImage(frame, 0, 0, width, height);
  const colour = style.getPropertyValue("--sliding");
  const rectangle = ({ left, top, right, bottom }: DrawnTile, inset: number) =>
    [
      left * width + inset,
      top * height + inset,
      (right - left) * width - 2 * inset,
      (bottom - top) * height - 2 * inset,
    ] as const;
  for (const tile of tiles) {
    context.globalAlpha = tile.isChosen ? TINT : 1;
    context.fillStyle = tile.isChosen ? colour : SHADE;
    context.fillRect(...rectangle(tile, 0));
    context.globalAlpha = 1;
    if (!tile.isChosen) continue;
    context.lineWidth = 1;
    context.strokeStyle = colour;
    context.strokeRect(...rectangle(tile, 0.5));
  }
  for (const tile of tiles.filter(({ isQuery }) => isQuery)) {
    context.lineWidth = 6;
    context.strokeStyle = style.getPropertyValue("--coreset");
    context.strokeRect(...rectangle(tile, 3));
  }
}

/** A slider with its value beside its name. */
function slider(name: string, count: number, value: number, text: (at: number) => string, onInput: () => void) {
  const label = element("label"), output = element("span");
  const input = element("input", { type: "range", min: "0", max: String(count - 1), value: String(value) });
  input.disabled = count === 1;
  input.addEventListener("input", onInput);
  label.append(`${name} `, output, input);
  return {
    ...{ label, input },
    get value() {
      return Number(input.value);
    },
    show: () => {
      output.textContent = text(Number(input.value));
      input.setAttribute("aria-valuetext", text(Number(input.value)));
    },
  };
}
