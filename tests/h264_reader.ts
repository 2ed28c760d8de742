/**
 * Reads MP4 files back with other people's code: mp4box takes the container apart, tinyh264 decodes the samples.
 *
 * @module
 */
import { createFile, MP4BoxBuffer } from "mp4box";
import { openH264Decoder } from "../model/video/read/tiny_h264.ts";

/** What a container says of its one video track. */
export interface Mp4Track {
  readonly codec: string;
  readonly width: number;
  readonly height: number;
  readonly seconds: number;
  /** Units of `durations` in a second. */
  readonly timescale: number;
  /** How long each frame is shown. */
  readonly durations: readonly number[];
  /** Whether each frame can be decoded by itself. */
  readonly keyFrames: readonly boolean[];
  /** Where the description of the tracks and the first frame begin. */
  readonly movieAt: number;
  readonly firstSampleAt: number;
  /** Frames as planar 4:2:0, in order. */
  readonly frames: Uint8Array[];
  /** The `colr` box: primaries, transfer, matrix, full range. */
  readonly colour: number[] | undefined;
  /** What the stream itself says, in its sequence parameter set. */
  readonly stream: StreamDescription;
}

/** The sequence parameter set's profile, constraints and level, and its usability information. */
export interface StreamDescription {
  readonly profile: number[];
  /** Primaries, transfer, matrix, full range. */
  readonly colour: number[];
  readonly framesPerSecond: number;
  /** Frames that may come out of order, and that a decoder keeps. */
  readonly reorder: number[];
}

/** Takes an MP4 apart and decodes it. */
export async function readMp4(mp4: Uint8Array<ArrayBuffer>): Promise<Mp4Track> {
  const file = createFile(true);
  let failure: unknown;
  file.onError = (_module: string, message: string) => failure = message;
  file.appendBuffer(MP4BoxBuffer.fromArrayBuffer(mp4.slice().buffer, 0));
  file.flush();
  if (failure) throw new Error(String(failure));
  const info = file.getInfo();
  if (info.videoTracks.length !== 1) throw new Error(`${info.videoTracks.length} video tracks`);
  const track = info.videoTracks[0]!;
  const table = file.getTrackSamplesInfo(track.id);
  const samples = table.map((sample) => mp4.subarray(sample.offset, sample.offset + sample.size));
  // deno-lint-ignore no-explicit-any
  const entry = file.getTrackById(track.id).mdia.minf.stbl.stsd.entries[0] as any;
  const parameterSets = [...entry.avcC.SPS, ...entry.avcC.PPS].map((set: { data: Uint8Array }) => set.data);
  const frames = await decode([...parameterSets, ...samples.flatMap(nalUnits)]);
  const colr = entry.colr;
  return {
    codec: track.codec,
    width: track.track_width,
    height: track.track_height,
    seconds: info.duration / info.timescale,
    timescale: track.timescale,
    durations: table.map((sample) => sample.duration),
    keyFrames: table.map((sample) => sample.is_sync),
    movieAt: file.moov.start!,
    firstSampleAt: table[0]!.offset,
    frames,
    colour: colr &&
      [colr.colour_primaries, colr.transfer_characteristics, colr.matrix_coefficients, colr.full_range_flag],
    stream: readSps(entry.avcC.SPS[0].data),
  };
}

/** Reads a Baseline sequence parameter set with usability information, field by field (ITU-T H.264, 7.3.2.1.1, E.1.1). */
function readSps(nalUnit: Uint8Array): StreamDescription {
  const text = [...nalUnit].map((byte) => byte.toString(16).padStart(2, "0")).join(" ").replaceAll("00 00 03", "00 00");
  let bits = text.split(" ").map((byte) => parseInt(byte, 16).toString(2).padStart(8, "0")).join("");
  const u = (count: number) => {
    const value = parseInt(bits.slice(0, count), 2);
    bits = bits.slice(count);
    return value;
  };
  const ue = () => {
    const zeros = bits.indexOf("1");
    return u(2 * zeros + 1) - 1;
  };
  u(8);
  const profile = [u(8), u(8), u(8)];
  // Numbers of the set, of frames, of the order; references; gaps; columns, rows; frames only; direct; cropping.
  ue(), ue(), ue(), ue(), u(1), ue(), ue(), u(1), u(1);
  if (u(1)) ue(), ue(), ue(), ue();
  if (!u(1)) throw new Error("no usability information");
  if (u(1)) u(8);
  if (u(1)) u(1);
  if (!u(1)) throw new Error("no description of the signal");
  u(3);
  const fullRange = u(1);
  if (!u(1)) throw new Error("no colours");
  const colour = [u(8), u(8), u(8), fullRange];
  if (u(1)) ue(), ue();
  if (!u(1)) throw new Error("no time");
  const ticks = u(32), scale = u(32);
  u(1);
  if (u(3) !== 0) throw new Error("a reference decoder or a structure of pictures");
  if (!u(1)) throw new Error("no bounds");
  u(1), ue(), ue(), ue(), ue();
  const reorder = [ue(), ue()];
  if (!/^10*$/.test(bits) || bits.length > 8) throw new Error(`the set ends with ${bits}`);
  return { profile, colour, framesPerSecond: scale / 2 / ticks, reorder };
}

/** The NAL units of a sample: each behind its length in four bytes. */
function nalUnits(sample: Uint8Array): Uint8Array[] {
  const view = new DataView(sample.buffer, sample.byteOffset, sample.length);
  const units: Uint8Array[] = [];
  for (let at = 0; at < sample.length;) {
    const size = view.getUint32(at);
    units.push(sample.subarray(at + 4, at + 4 + size));
    at += 4 + size;
  }
  return units;
}

async function decode(units: Uint8Array[]): Promise<Uint8Array[]> {
  using decoder = await openH264Decoder();
  return units.flatMap((unit) => decoder.decode(unit)?.yuv ?? []);
}

/** Planar 4:2:0 BT.601 in limited range back to RGB [height, width, 3]; chroma is interpolated linearly. */
export function yuv420ToRgb(yuv: Uint8Array, width: number, height: number): Uint8Array {
  const rgb = new Uint8ClampedArray(width * height * 3);
  const planes = [yuv.subarray(width * height), yuv.subarray(width * height * 5 / 4)];
  const at = (plane: Uint8Array, x: number, y: number) =>
    plane[Math.min(height / 2 - 1, Math.max(0, y)) * width / 2 + Math.min(width / 2 - 1, Math.max(0, x))]!;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      // Where the pixel's centre lies among those of chroma.
      const u = (x + 0.5) / 2 - 0.5, v = (y + 0.5) / 2 - 0.5, left = Math.floor(u), top = Math.floor(v);
      const [cb, cr] = planes.map((plane) => {
        const [upper, lower] = [top, top + 1].map((line) =>
          at(plane, left, line) * (left + 1 - u) + at(plane, left + 1, line) * (u - left)
        );
        return upper! * (top + 1 - v) + lower! * (v - top) - 128;
      }) as [number, number];
      const l = 1.164384 * (yuv[y * width + x]! - 16);
      rgb.set([l + 1.596027 * cr, l - 0.391762 * cb - 0.812968 * cr, l + 2.017232 * cb], (y * width + x) * 3);
    }
  }
  return new Uint8Array(rgb.buffer);
}
