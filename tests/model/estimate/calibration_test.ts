import { assert } from "@std/assert";
import { fittedSeconds } from "../../../model/estimate/calibration.ts";
import type { ClipWork } from "../../../model/estimate/clip_time.ts";

/** The work of a clip of a small model. */
function work(tokens: number, steps: number, density: number): ClipWork {
  const linear = 1e7 * tokens * steps, attention = 4e3 * tokens ** 2 * steps;
  return { linear, attention, density, bytes: 0, pixels: 900 * tokens, width: "narrow" };
}

/** The time on a made-up adapter, whose parts are otherwise in proportion than the GPU's that estimates start from. */
const seconds = ({ linear, attention, density, pixels }: ClipWork) =>
  linear / 5e9 + attention * density / 2e9 + pixels / 3e5 + 0.4;

const CLIPS = [
  work(512, 20, 1),
  work(512, 20, 0.4),
  work(512, 5, 1),
  work(80, 20, 1),
  work(80, 4, 0.5),
  work(320, 10, 1),
];

/** Asserts that times are near those that clips have, as a ratio. */
function assertNear(fitted: (work: ClipWork) => number, clip: ClipWork, share: number) {
  const ratio = fitted(clip) / seconds(clip);
  assert(Math.abs(ratio - 1) < share, `${ratio}`);
}

Deno.test("times of other clips follow from those of some", () => {
  const fitted = fittedSeconds(CLIPS.map((work) => ({ work, seconds: seconds(work) })));
  for (const clip of [work(512, 30, 0.7), work(200, 8, 1), work(1000, 20, 0.2)]) assertNear(fitted, clip, 0.08);
});

Deno.test("a first clip, which compiles kernels, hardly changes the others' times", () => {
  const made = CLIPS.map((work) => ({ work, seconds: seconds(work) }));
  const fitted = fittedSeconds([{ work: CLIPS[4]!, seconds: 10 * seconds(CLIPS[4]!) }, ...made]);
  for (const clip of CLIPS) assertNear(fitted, clip, 0.15);
});

Deno.test("one clip is enough for others like it", () => {
  const fitted = fittedSeconds([{ work: CLIPS[0]!, seconds: seconds(CLIPS[0]!) }]);
  assertNear(fitted, CLIPS[0]!, 0.01);
  assertNear(fitted, work(512, 40, 1), 0.1);
});
