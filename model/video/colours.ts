/** How Y′CbCr and RGB become each other. */
export interface YuvColours {
  /** The red and the blue weight of luma: BT.601's or BT.709's. */
  readonly kr: number;
  readonly kb: number;
  /** Whether samples use all 256 levels; else luma lies within 16…235 and chroma within 16…240. */
  readonly fullRange: boolean;
}

/** BT.601 in limited range: the default for files that do not say, as in ffmpeg. */
export const BT601: YuvColours = { kr: 0.299, kb: 0.114, fullRange: false };
/** BT.709 in limited range. */
export const BT709: YuvColours = { kr: 0.2126, kb: 0.0722, fullRange: false };

/** How files name colours: the code points of ITU-T H.273. */
export interface ColourTags {
  readonly primaries: number;
  readonly transfer: number;
  readonly matrix: number;
}

/** `matrix` of {@link ColourTags}. */
export const MATRIX_BT709 = 1, MATRIX_BT601 = 6;
/** The primaries of BT.709 are sRGB's, too; the transfer is sRGB's. */
const PRIMARIES_BT709 = 1, TRANSFER_SRGB = 13;

/**
 * The colours to write a picture of that size in. Players that do not read what a file says of itself take BT.709 for
 * high definition and BT.601 for less.
 */
export function coloursFor(width: number, height: number): { readonly yuv: YuvColours; readonly tags: ColourTags } {
  const isHighDefinition = width >= 1280 || height > 576;
  return {
    yuv: isHighDefinition ? BT709 : BT601,
    tags: {
      primaries: PRIMARIES_BT709,
      transfer: TRANSFER_SRGB,
      matrix: isHighDefinition ? MATRIX_BT709 : MATRIX_BT601,
    },
  };
}
