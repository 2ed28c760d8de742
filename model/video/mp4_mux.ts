import { commentBox } from "./comment/mp4.ts";
import type { ColourTags } from "./colours.ts";
import type { FrameRate } from "./frame_rate.ts";
import { box, concatenate, fullBox, u16, u32 } from "./mp4_boxes.ts";

/** Encoded frames and what describes them. */
export interface H264Track {
  readonly width: number;
  readonly height: number;
  readonly rate: FrameRate;
  readonly colours: ColourTags;
  /** Sequence and picture parameter set: NAL units. */
  readonly sps: Uint8Array;
  readonly pps: Uint8Array;
  /** Each a frame: NAL units behind their lengths in four bytes, in the order in which they are shown. */
  readonly samples: readonly Uint8Array[];
  /** Indices of the samples that can be decoded by themselves. */
  readonly keyFrames: readonly number[];
}

/** Not turned, mirrored or moved. */
const UPRIGHT = u32(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000);
/** 72 dots an inch, as all files have it. */
const RESOLUTION = u32(0x480000, 0x480000);
/** 1 in numbers of 16.16 bits. */
const ONE = 0x10000;
const TRACK = 1;
/** Flags of `tkhd`: the track is enabled, and in the movie; of `url `: the samples are in this file. */
const ENABLED = 3, SAME_FILE = 1;

/**
 * An MP4 file with one H.264 track. The description comes before the samples ("fast start"), so that a browser plays
 * the file while it is still loading. Times of creation are left at zero: the same clip gives the same bytes.
 */
export function muxMp4(track: H264Track, comment?: string): Uint8Array<ArrayBuffer> {
  const type = box("ftyp", "isom", u32(512), "isomiso2avc1mp41");
  const media = box("mdat", ...track.samples);
  // Where the samples are is the same length whatever it says.
  const before = type.length + movie(track, 0, comment).length + 8;
  return concatenate([type, movie(track, before, comment), media]);
}

function movie(track: H264Track, firstSample: number, comment: string | undefined): Uint8Array {
  const { width, height, rate } = track;
  const duration = track.samples.length * rate.frameTicks;
  const noTimes = u32(0, 0);
  return box(
    "moov",
    fullBox("mvhd", 0, noTimes, u32(rate.timescale, duration, ONE), u16(0x100, 0), u32(0, 0), UPRIGHT, [
      ...new Array(24).fill(0),
      ...u32(TRACK + 1),
    ]),
    box(
      "trak",
      fullBox("tkhd", ENABLED, noTimes, u32(TRACK, 0, duration, 0, 0, 0, 0), UPRIGHT, u32(width * ONE, height * ONE)),
      box(
        "mdia",
        // The language is "und".
        fullBox("mdhd", 0, noTimes, u32(rate.timescale, duration), u16(0x55c4, 0)),
        fullBox("hdlr", 0, u32(0), "vide", u32(0, 0, 0), "VideoHandler\0"),
        box(
          "minf",
          fullBox("vmhd", 1, u32(0, 0)),
          box("dinf", fullBox("dref", 0, u32(1), fullBox("url ", SAME_FILE))),
          sampleTable(track, firstSample),
        ),
      ),
    ),
    ...comment === undefined ? [] : [commentBox(comment)],
  );
}

function sampleTable(track: H264Track, firstSample: number): Uint8Array {
  const { width, height, rate, samples, keyFrames } = track;
  const count = samples.length;
  const entry = box(
    "avc1",
    u32(0),
    u16(0, 1),
    u32(0, 0, 0, 0),
    u16(width, height),
    RESOLUTION,
    u32(0),
    u16(1),
    new Uint8Array(32),
    u16(24, 0xffff),
    decoderConfiguration(track),
    colourBox(track.colours),
  );
  return box(
    "stbl",
    fullBox("stsd", 0, u32(1), entry),
    fullBox("stts", 0, u32(1, count, rate.frameTicks)),
    fullBox("stss", 0, u32(keyFrames.length, ...keyFrames.map((i) => i + 1))),
    // All samples are one chunk.
    fullBox("stsc", 0, u32(1, 1, count, 1)),
    fullBox("stsz", 0, u32(0, count, ...samples.map((sample) => sample.length))),
    fullBox("stco", 0, u32(1, firstSample)),
  );
}

/** Profile, constraints and level as the sequence parameter set has them; lengths have four bytes. */
function decoderConfiguration({ sps, pps }: H264Track): Uint8Array {
  return box("avcC", [1, ...sps.subarray(1, 4), 0xff, 0xe1], u16(sps.length), sps, [1], u16(pps.length), pps);
}

function colourBox({ primaries, transfer, matrix }: ColourTags): Uint8Array {
  return box("colr", "nclx", u16(primaries, transfer, matrix), [0]);
}
