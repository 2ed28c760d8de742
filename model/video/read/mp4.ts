import { TilereelError } from "../../../gpu/common/errors.ts";
import { formatBytes } from "../../../gpu/common/format_bytes.ts";
import { BT601, BT709, MATRIX_BT709, type YuvColours } from "../colours.ts";
import { fileAt } from "../../files/disk.ts";
import { type ByteSource, readPart } from "../../files/store.ts";
import { checkPictureSize } from "../../picture/limits.ts";
import { type Mp4Description, type Mp4Track, readMp4Description, type Sample } from "./mp4_tracks.ts";
import type { Pictures } from "./timed_picture.ts";
import { LARGEST_NAL_UNIT, openH264Decoder } from "./tiny_h264.ts";
import { yuv420ToRgb } from "./yuv.ts";

/** `profile_idc` of the Baseline profiles. */
const BASELINE = 66;
/** A track's matrix when it is shown as it lies: not turned, mirrored or moved. */
const UPRIGHT = [0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000];

/** The obstacle where the description of the tracks makes no sense. */
const DAMAGED = "it is damaged: the description of its tracks makes no sense";

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

/** Finds the one video track and the data that decoding it requires. */
async function describe(file: ByteSource): Promise<Track | string> {
  let description: Mp4Description | undefined;
  try {
    description = await readMp4Description(file);
  } catch (error) {
    if (error instanceof RangeError) return DAMAGED;
    throw error;
  }
  if (!description) return "it is damaged or cut short: its tracks are not described";
  const { video, isFragmented } = description;
  if (!video) return "it has no video track";
  if (isFragmented) return "it is a fragmented MP4";
  const { type, avc, matrix, width, height, colours, samples } = video;
  if (type !== "avc1" || avc?.profile !== BASELINE) {
    const profile = avc &&
      [avc.profile, avc.compatibility, avc.level].map((byte) => byte.toString(16).padStart(2, "0"));
    const codec = `${type.replace(/[^ -~]/g, "?")}${profile ? `.${profile.join("")}` : ""}`;
    return `its codec is ${codec}, which is not H.264 Baseline`;
  }
  if (UPRIGHT.some((value, i) => matrix[i] !== value)) return "it is to be shown turned or mirrored";
  if (samples.some((sample) => sample.offset + sample.size > file.size)) return "it is cut short";
  checkPictureSize(file.path, width, height);
  return { width, height, colours: coloursOf(colours), ...avc, samples };
}

function coloursOf(colours: Mp4Track["colours"]): YuvColours {
  const matrix = colours?.matrix === MATRIX_BT709 ? BT709 : BT601;
  return { ...matrix, fullRange: colours?.fullRange ?? false };
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
