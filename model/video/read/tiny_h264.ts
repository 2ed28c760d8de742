// @ts-types="./tinyh264.d.ts"
import tinyH264 from "tinyh264";
// @ts-types="./tinyh264_decoder.d.ts"
import TinyH264Decoder from "tinyh264/decoder";

/** Bytes of the decoder's buffer for a NAL unit; it does not check them itself. */
const LARGEST_INPUT = 1 << 20;
const START_CODE = [0, 0, 0, 1];

/** Bytes that a NAL unit may have. */
export const LARGEST_NAL_UNIT = LARGEST_INPUT - START_CODE.length;

/** A decoded frame. */
export interface DecodedFrame {
  /** Planar 4:2:0. */
  readonly yuv: Uint8Array;
  /** Whole macroblocks: multiples of 16, of which the stream's cropping has not been taken off. */
  readonly width: number;
  readonly height: number;
}

/** A decoder of one H.264 Baseline stream: tinyh264 (Android's h264bsd as WebAssembly). */
export interface H264Decoder extends Disposable {
  /** Takes one NAL unit and gives the frame that it completes, if any. What cannot be decoded completes none. */
  decode(nalUnit: Uint8Array): DecodedFrame | undefined;
}

/** Opens a decoder, which has WebAssembly memory of its own. */
export async function openH264Decoder(): Promise<H264Decoder> {
  let frame: DecodedFrame | undefined;
  const decoder = new TinyH264Decoder(
    await load(),
    (yuv: Uint8Array, width: number, height: number) => frame = { yuv, width, height },
  );
  return {
    decode(nalUnit) {
      if (nalUnit.length > LARGEST_NAL_UNIT) throw new Error(`a NAL unit of ${nalUnit.length} bytes`);
      frame = undefined;
      const unit = new Uint8Array(START_CODE.length + nalUnit.length);
      unit.set(START_CODE);
      unit.set(nalUnit, START_CODE.length);
      decoder.decode(unit);
      return frame;
    },
    [Symbol.dispose]: () => decoder.release(),
  };
}

/**
 * tinyh264 was made for browsers' workers: when it is called it reads `location`, which Deno has not, though its
 * WebAssembly is inside it. It has one until the call returns; nothing else runs meanwhile.
 */
function load(): Promise<unknown> {
  const before = Object.getOwnPropertyDescriptor(globalThis, "location");
  Object.defineProperty(globalThis, "location", { value: { href: import.meta.url }, configurable: true });
  try {
    return tinyH264();
  } finally {
    if (before) Object.defineProperty(globalThis, "location", before);
    else Reflect.deleteProperty(globalThis, "location");
  }
}
