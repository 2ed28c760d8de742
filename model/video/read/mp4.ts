import { createFile, Log, MP4BoxBuffer } from "mp4box";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { formatBytes } from "../../../gpu/common/format_bytes.ts";
import { BT601, BT709, MATRIX_BT709, type YuvColours } from "../colours.ts";
import { fileAt } from "../../files/disk.ts";
import { type ByteSource, readPart } from "../../files/store.ts";
import type { Pictures } from "./timed_picture.ts";
import { LARGEST_NAL_UNIT, openH264Decoder } from "./tiny_h264.ts";
import { yuv420ToRgb } from "./yuv.ts";

/** Bytes that are read at once while the description of the tracks is looked for. */
const HEADER_PIECE = 1 << 18;
/** `profile_idc` of the Baseline profiles. */
const BASELINE = 66;
/** A track's matrix when it is shown as it lies: not turned, mirrored or moved. */
const UPRIGHT = [0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000];

/** The obstacle where the description of the tracks makes no sense. */
const DAMAGED = "it is damaged: the description of its tracks makes no sense";

/** Where a frame lies in the file, and when it gives way to the next. */
interface Sample {
  readonly offset: number;
  readonly size: number;
  /** In seconds. */
  readonly end: number;
}

/** A video track that can be decoded. */
interface Track {
  readonly width: number;
  readonly height: number;
  readonly colours: YuvColours;
  /** Bytes of the number before each NAL unit. */
  readonly lengthSize: number;
  readonly parameterSets: readonly Uint8Array[];
  readonly samples: readonly Sample[];
}

/** What a file turned out to be: pictures, or in words why it is not for this reader. */
export type Mp4 = { readonly pictures: Pictures } | { readonly obstacle: string };

/**
 * Opens an MP4 with H.264 Baseline. It needs no installed program.
 *
 * @throws {TilereelError} when the file cannot be read; while its pictures are read, also when they are damaged
 */
export async function openMp4(path: string): Promise<Mp4> {
  using file = await fileAt(path).open();
  const track = await describe(file);
  return typeof track === "string" ? { obstacle: track } : { pictures: decode(path, track) };
}

// What is wrong with a file is said in one sentence, not also on the console.
Log.error = (module, message, file) => file?.onError?.(module, message ?? "it is damaged");

/** Finds the one video track and the data that decoding it requires. */
async function describe(file: ByteSource): Promise<Track | string> {
  const mp4 = createFile(false);
  let ready = false, damaged = false;
  mp4.onReady = () => ready = true;
  mp4.onError = () => damaged = true;
  try {
    for (let at = 0; at < file.size && !ready && !damaged;) {
      const piece = await readPart(file, at, HEADER_PIECE);
      // Jumps over the pictures, where they come before the description.
      const next = mp4.appendBuffer(MP4BoxBuffer.fromArrayBuffer(piece.buffer, at));
      at = next > at ? next : at + piece.length;
    }
    if (damaged) return DAMAGED;
    if (!ready) return "it is damaged or cut short: its tracks are not described";
    const { videoTracks: [info], isFragmented } = mp4.getInfo();
    if (!info) return "it has no video track";
    if (isFragmented) return "it is a fragmented MP4";
    // deno-lint-ignore no-explicit-any
    const entry = mp4.getTrackById(info.id).mdia.minf.stbl.stsd.entries[0] as any;
    if (entry.avcC?.AVCProfileIndication !== BASELINE || entry.type !== "avc1") {
      return `its codec is ${info.codec.replace(/[^ -~]/g, "?")}, which is not H.264 Baseline`;
    }
    if (UPRIGHT.some((value, i) => info.matrix[i] !== value)) return "it is to be shown turned or mirrored";
    const samples = mp4.getTrackSamplesInfo(info.id);
    if (samples.some((sample) => sample.offset + sample.size > file.size)) return "it is cut short";
    const begin = samples[0]?.cts ?? 0;
    return {
      width: entry.width,
      height: entry.height,
      colours: coloursOf(entry.colr),
      lengthSize: entry.avcC.lengthSizeMinusOne + 1,
      parameterSets: [...entry.avcC.SPS, ...entry.avcC.PPS].map((set: { data: Uint8Array }) => set.data),
      samples: samples.map(({ offset, size, cts, duration, timescale }) => {
        return { offset, size, end: (cts + duration - begin) / timescale };
      }),
    };
  } catch (error) {
    // mp4box trusts what a file says of itself, and fails in its own words.
    if (error instanceof TilereelError) throw error;
    return DAMAGED;
  }
}

function coloursOf(colr: { matrix_coefficients?: number; full_range_flag?: number } | undefined): YuvColours {
  const matrix = colr?.matrix_coefficients === MATRIX_BT709 ? BT709 : BT601;
  return { ...matrix, fullRange: colr?.full_range_flag === 1 };
}

async function* decode(path: string, track: Track): Pictures & AsyncGenerator {
  const { width, height, colours, lengthSize, parameterSets, samples } = track;
  using file = await fileAt(path).open();
  using decoder = await openH264Decoder();
  for (const set of parameterSets) decoder.decode(set);
  for (const [i, { offset, size, end }] of samples.entries()) {
    const damaged = () => new TilereelError(`${path}: frame ${i + 1} cannot be decoded; the file is damaged`);
    const [frame, ...more] = nalUnits(await readPart(file, offset, size), lengthSize).flatMap((unit) => {
      if (unit.length > LARGEST_NAL_UNIT) {
        throw new TilereelError(
          `${path}: frame ${i + 1} has ${formatBytes(unit.length)} in one unit, which is too large to decode; ` +
            `convert it to a GIF or a folder of PNG or JPEG frames`,
        );
      }
      return decoder.decode(unit) ?? [];
    });
    if (!frame || more.length > 0 || frame.width < width || frame.height < height) throw damaged();
    const planes = { stride: frame.width, lines: frame.height, width, height };
    yield { end, width, height, rgb: () => yuv420ToRgb(frame.yuv, planes, colours) };
  }
}

/** The NAL units of a sample: each behind its length. A length past the end is cut to it. */
function nalUnits(sample: Uint8Array, lengthSize: number): Uint8Array[] {
  const units: Uint8Array[] = [];
  for (let at = 0; at + lengthSize <= sample.length;) {
    const size = sample.subarray(at, at + lengthSize).reduce((sum, byte) => sum * 256 + byte, 0);
    units.push(sample.subarray(at + lengthSize, at + lengthSize + size));
    at += lengthSize + size;
  }
  return units;
}
