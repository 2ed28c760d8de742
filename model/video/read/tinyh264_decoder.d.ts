/** The package has no types of its own. */
export default class TinyH264Decoder {
  constructor(module: unknown, onPicture: (yuv420: Uint8Array, width: number, height: number) => void);
  decode(nalUnit: Uint8Array): void;
  release(): void;
}
