import { TilereelError } from "../../gpu/common/errors.ts";
import type { TensorInfo, TensorSource } from "./tensor_source.ts";

/** Where a tensor is, and its name there. */
export interface StoredAs {
  readonly source: TensorSource;
  readonly name: string;
  /** The name of its scale in that source, if it has one. The view lists no scales, but reads them by these names. */
  readonly scale?: string | undefined;
}

/** Tensors of other sources, which it owns, by other names: several files as one, or the names of another layout. */
export class TensorView implements TensorSource {
  readonly #scales: ReadonlyMap<string, StoredAs>;

  constructor(
    readonly path: string,
    private readonly tensors: ReadonlyMap<string, StoredAs>,
    private readonly sources: readonly TensorSource[],
    readonly metadata: Readonly<Record<string, string>> = {},
  ) {
    this.#scales = new Map(
      [...tensors.values()].flatMap(({ source, scale }) =>
        scale === undefined ? [] : [[scale, { source, name: scale }]]
      ),
    );
  }

  names(): string[] {
    return [...this.tensors.keys()];
  }

  has(name: string): boolean {
    return this.tensors.has(name);
  }

  info(name: string): TensorInfo {
    const { source, name: stored, scale } = this.#stored(name);
    return { ...source.info(stored), name, ...scale !== undefined && { scale } };
  }

  async read(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const { source, name: stored } = this.#stored(name);
    return await source.read(stored);
  }

  async readRange(
    name: string,
    byteStart: number,
    byteLength: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const { source, name: stored } = this.#stored(name);
    return await source.readRange(stored, byteStart, byteLength, into);
  }

  async readRows(name: string, rows: Iterable<number>): Promise<Uint8Array<ArrayBuffer>> {
    const { source, name: stored } = this.#stored(name);
    return await source.readRows(stored, rows);
  }

  close(): void {
    for (const source of this.sources) source.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #stored(name: string): StoredAs {
    const stored = this.tensors.get(name) ?? this.#scales.get(name);
    if (!stored) throw new TilereelError(`${this.path} lists no tensor "${name}", which this model needs`);
    return stored;
  }
}
