/** The beginning of a GIF. */
export interface GifScreen {
  readonly width: number;
  readonly height: number;
  /** RGB of the colours that images without their own have; empty if there are none. */
  readonly palette: Uint8Array;
}

/** A part of a GIF after its beginning. */
export type GifBlock = GifImage | GifExtension;

/** One image, at its place on the screen. */
export interface GifImage {
  readonly kind: "image";
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  /** RGB of its own colours; empty if it has those of the screen. */
  readonly palette: Uint8Array;
  readonly isInterlaced: boolean;
  /** Bits of a colour in its codes. */
  readonly codeSize: number;
  /** The codes. */
  readonly data: readonly Uint8Array[];
}

/** An extension, of which there are several kinds. */
export interface GifExtension {
  readonly kind: "extension";
  readonly label: number;
  readonly data: readonly Uint8Array[];
}

const SCREEN_BYTES = 13, IMAGE_BYTES = 9;
const EXTENSION = 0x21, IMAGE = 0x2c, TRAILER = 0x3b;

/**
 * The beginning of a GIF.
 *
 * @throws {RangeError} if the bytes are no GIF, or end too early
 */
export function gifScreen(bytes: Uint8Array): GifScreen {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < SCREEN_BYTES || !/^GIF8[79]a$/.test(String.fromCharCode(...bytes.subarray(0, 6)))) {
    throw new RangeError("its beginning is not that of a GIF");
  }
  return {
    ...{ width: view.getUint16(6, true), height: view.getUint16(8, true) },
    palette: new Cursor(bytes, SCREEN_BYTES).palette(bytes[10]!),
  };
}

/**
 * The parts of a GIF after its beginning, in order. Nothing is decoded.
 *
 * @throws {RangeError} if it ends before its trailer, or has an unknown part
 */
export function* gifBlocks(bytes: Uint8Array): Generator<GifBlock> {
  const cursor = new Cursor(bytes, SCREEN_BYTES + gifScreen(bytes).palette.length);
  for (;;) {
    const kind = cursor.byte();
    if (kind === TRAILER) return;
    if (kind === EXTENSION) yield { kind: "extension", label: cursor.byte(), data: cursor.subBlocks() };
    else if (kind === IMAGE) yield cursor.image();
    else throw new RangeError("it has an unknown part");
  }
}

class Cursor {
  readonly #view: DataView;

  constructor(private readonly bytes: Uint8Array, private at: number) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  byte(): number {
    return this.#take(1)[0]!;
  }

  /** The table of colours that follows, if the flags say that there is one. */
  palette(flags: number): Uint8Array {
    return this.#take(flags & 0x80 ? 3 << (flags & 7) + 1 : 0);
  }

  image(): GifImage {
    const start = this.at, flags = this.#take(IMAGE_BYTES).at(-1)!;
    const [x, y, width, height] = [0, 2, 4, 6].map((field) => this.#view.getUint16(start + field, true));
    const palette = this.palette(flags), codeSize = this.byte();
    return {
      ...{ kind: "image", x: x!, y: y!, width: width!, height: height! },
      ...{ palette, isInterlaced: (flags & 0x40) !== 0, codeSize, data: this.subBlocks() },
    };
  }

  subBlocks(): Uint8Array[] {
    const parts: Uint8Array[] = [];
    for (let size = this.byte(); size > 0; size = this.byte()) parts.push(this.#take(size));
    return parts;
  }

  #take(length: number): Uint8Array {
    if (this.at + length > this.bytes.length) throw new RangeError("it is cut short");
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }
}
