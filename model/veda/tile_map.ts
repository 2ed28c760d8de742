/**
 * Which tiles each tile attended to while a clip was made, in a safetensors file:
 *
 * - `STEP.LAYER`: [heads, bytes], U8: for each head a bit for each pair of a query tile and a key tile, row by row, the
 *   lowest bit first; a row begins at a whole byte
 * - `STEP.LAYER.shapes`: [heads], U8: the index of each head's shape of tiles, or 255 where the head selected no tiles
 * - in the metadata, under `tile map`, JSON: the `grid` of tokens, and the `shapes` of tiles
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { type Grid, partCounts, product } from "../attention/grid.ts";
import type { AttentionMethod, SelectedTiles } from "../attention/method.ts";
import { parseJsonObject } from "../checkpoint/json.ts";
import { openSafetensors, type TensorSource } from "../checkpoint/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../checkpoint/write_safetensors.ts";

/** The key in the metadata. */
const KEY = "tile map";
/** The index of a head's shape where it selected no tiles. */
const NONE = 255;
/** The bytes that a map may have. Of longer clips, some steps and layers are left out. */
const MOST_BYTES = 16 * 2 ** 20;

/** What a map holds. */
export interface TileMapContents {
  /** The clip's tokens along frames, rows and columns. */
  readonly grid: Grid;
  /** The shapes of tiles: tokens along frames, rows and columns. */
  readonly shapes: readonly Grid[];
  /** The steps and layers that were kept, counted from 0. */
  readonly steps: readonly number[];
  readonly layers: readonly number[];
  readonly heads: number;
}

/** The tiles that the tiles of one head attended to. */
export interface TileMask {
  readonly shape: Grid;
  /** The number of tiles along frames, rows and columns. */
  readonly counts: Grid;
  /** [tiles, ⌈tiles / 8⌉]: a bit for each key tile, the lowest first. */
  readonly bits: Uint8Array;
}

/** The selections of a layer in a step. */
interface Kept {
  readonly shapes: Uint8Array<ArrayBuffer>;
  readonly bits: Uint8Array<ArrayBuffer>[];
}

/** Keeps which tiles the heads select in the first pass of each step. It holds GPU memory until the next step. */
export class TileRecorder implements Disposable {
  readonly #owner: TensorOwner;
  readonly #shapes: Grid[] = [];
  readonly #kept = new Map<string, Kept>();
  readonly #reads: Promise<void>[] = [];
  #grid: Grid | undefined;
  #heads = 0;
  #pending: SelectedTiles[] = [];
  /** Every so many steps and layers are kept, from the first step that selects. */
  #every: { readonly from: number; readonly steps: number; readonly layers: number } | undefined;

  constructor(private readonly gpu: Gpu) {
    this.#owner = new TensorOwner(gpu);
  }

  /** The same method, whose selections are kept. */
  recorded(method: AttentionMethod): AttentionMethod {
    return {
      ...method,
      prepare: async (task) => {
        const { shape: { layers, heads }, layout: { grid }, timesteps, onTiles } = task;
        [this.#grid, this.#heads] = [grid, heads];
        const prepared = await method.prepare({
          ...task,
          onTiles: (selected) => {
            onTiles?.(selected);
            this.#observe(selected, layers, timesteps.length);
          },
        });
        return {
          at: (step, pass) => {
            // What the step before selected is read while this one is recorded.
            if (pass === 0) this.#readPending();
            return prepared.at(step, pass);
          },
          report: (ran) => prepared.report(ran),
          [Symbol.dispose]: () => prepared[Symbol.dispose](),
        };
      },
    };
  }

  /**
   * Writes the map to a file.
   *
   * @returns whether there is one: no tiles were selected otherwise
   * @throws {TilereelError} if it cannot be written
   */
  async save(path: string): Promise<boolean> {
    this.#readPending();
    await Promise.all(this.#reads);
    if (this.#kept.size === 0) return false;
    const tensors: Record<string, TensorToWrite> = {};
    for (const [name, { shapes, bits }] of this.#kept) {
      const width = Math.max(...bits.map(({ length }) => length)), data = new Uint8Array(bits.length * width);
      for (const [head, of] of bits.entries()) data.set(of, head * width);
      tensors[name] = { dtype: "U8", shape: [bits.length, width], data };
      tensors[`${name}.shapes`] = { dtype: "U8", shape: [shapes.length], data: shapes };
    }
    await writeSafetensors(path, tensors, { [KEY]: JSON.stringify({ grid: this.#grid, shapes: this.#shapes }) });
    return true;
  }

  [Symbol.dispose](): void {
    this.#owner[Symbol.dispose]();
  }

  #observe(selected: SelectedTiles, layers: number, steps: number): void {
    const { step, pass, layer, kinds, runs } = selected;
    if (pass !== 0) return;
    const most = Math.max(...kinds.map(({ tiled: { tiles } }) => tiles.length));
    this.#every ??= everyOf(this.#heads * most * Math.ceil(most / 8), { layers, steps, from: step });
    const { from, steps: everyStep, layers: everyLayer } = this.#every;
    if ((step - from) % everyStep !== 0 || layer % everyLayer !== 0) return;
    this.#owner.adopt(runs);
    this.#pending.push(selected);
  }

  #readPending(): void {
    for (const selected of this.#pending.splice(0)) {
      const read = this.#read(selected);
      // It is told where it is waited for.
      read.catch(() => {});
      this.#reads.push(read);
    }
  }

  async #read({ step, layer, heads, runs, budget, kinds }: SelectedTiles): Promise<void> {
    const name = `${step}.${layer}`, all = new Uint32Array(await this.gpu.readBytes(runs));
    this.#owner.free(runs);
    const kept = this.#kept.get(name) ?? {
      shapes: new Uint8Array(this.#heads).fill(NONE),
      bits: Array.from({ length: this.#heads }, () => new Uint8Array()),
    };
    this.#kept.set(name, kept);
    for (const [i, head] of heads.entries()) {
      const { keep, tiled: { shape, tiles } } = kinds[i]!, width = Math.ceil(tiles.length / 8);
      const tileAt = new Map(tiles.map(({ first }, tile) => [first, tile]));
      const bits = new Uint8Array(tiles.length * width);
      let run = head * budget.runs;
      for (const [row, count] of keep.entries()) {
        for (let i = 0; i < count; i++) {
          const tile = tileAt.get(all[2 * (run + i)]!)!;
          bits[row * width + (tile >> 3)]! |= 1 << (tile & 7);
        }
        run += count + (budget.kept ? 1 : 0);
      }
      kept.shapes[head] = this.#shapeOf(shape);
      kept.bits[head] = bits;
    }
  }

  #shapeOf(shape: Grid): number {
    const found = this.#shapes.findIndex((known) => String(known) === String(shape));
    return found >= 0 ? found : this.#shapes.push(shape) - 1;
  }
}

/** How often steps and layers are kept, so that all of them have at most {@link MOST_BYTES}. */
export function everyOf(
  bytes: number,
  { layers, steps, from }: { readonly layers: number; readonly steps: number; readonly from: number },
) {
  const every = { from, layers: 1, steps: 1 };
  const kept = () => Math.ceil(layers / every.layers) * Math.ceil((steps - from) / every.steps);
  while (kept() > 1 && kept() * bytes > MOST_BYTES) every[every.layers <= every.steps ? "layers" : "steps"]++;
  return every;
}

/** An open map of tiles. */
export class TileMap implements Disposable {
  private constructor(private readonly source: TensorSource, readonly contents: TileMapContents) {}

  /** @throws {TilereelError} if there is none, or it is damaged */
  static async open(path: string): Promise<TileMap> {
    using cleanUp = new DisposableStack();
    const source = cleanUp.use(await openSafetensors(path, "a map of tiles"));
    const { grid, shapes } = parseJsonObject(source.metadata[KEY] ?? "") ?? {};
    const names = source.names().filter((name) => /^\d+\.\d+$/.test(name) && source.has(`${name}.shapes`));
    const [first] = names;
    if (!isGrid(grid) || !Array.isArray(shapes) || !shapes.every(isGrid) || first === undefined) {
      throw new TilereelError(`${path} holds no map of tiles`);
    }
    const numbers = (at: number) =>
      [...new Set(names.map((name) => Number(name.split(".")[at])))].sort((a, b) => a - b);
    const heads = source.info(first).shape[0]!;
    cleanUp.move();
    return new TileMap(source, { grid, shapes, steps: numbers(0), layers: numbers(1), heads });
  }

  /**
   * What a head selected; undefined where it selected no tiles, or the step or layer was not kept.
   *
   * @throws {TilereelError} if the file is damaged
   */
  async mask(step: number, layer: number, head: number): Promise<TileMask | undefined> {
    const { source, contents: { grid, shapes } } = this, name = `${step}.${layer}`;
    if (!source.has(name)) return undefined;
    const shape = shapes[(await source.read(`${name}.shapes`))[head] ?? NONE];
    if (!shape) return undefined;
    const counts = partCounts(grid, shape), tiles = product(counts), bytes = tiles * Math.ceil(tiles / 8);
    const [heads = 0, width = 0] = source.info(name).shape;
    if (head >= heads || bytes > width) throw new TilereelError(`${source.path} is damaged: ${name} is too small`);
    return { shape, counts, bits: await source.readRange(name, head * width, bytes) };
  }

  [Symbol.dispose](): void {
    this.source[Symbol.dispose]();
  }
}

function isGrid(value: unknown): value is Grid {
  return Array.isArray(value) && value.length === 3 && value.every((count) => Number.isInteger(count) && count > 0);
}
