import type { WriteStream } from "node:tty";
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { overall, partOf } from "../../../model/progress.ts";
import { unlessClosed } from "../../../tools/program/signals.ts";
import { formatDuration } from "../../../tools/program/format_duration.ts";
import { showProgress } from "../../../tools/program/progress.ts";

/** A stream that keeps what is written. */
function fakeStream(isTTY: boolean): { stream: WriteStream; written: () => string } {
  let text = "";
  const nothing = () => true;
  const stream = {
    isTTY,
    columns: 100,
    write(chunk: string) {
      text += chunk;
      return true;
    },
    cursorTo: nothing,
    moveCursor: nothing,
    clearLine: nothing,
    clearScreenDown: nothing,
    on: nothing,
  };
  return { stream: stream as unknown as WriteStream, written: () => text };
}

Deno.test("without a terminal: a line now and then, and one at the end", () => {
  const { stream, written } = fakeStream(false);
  let time = 0;
  const { onProgress, stop } = showProgress({ stream, now: () => time });
  for (let done = 0; done <= 20; done++) {
    onProgress({ stage: "denoise", done, total: 20 });
    time += 1000;
  }
  stop();
  assertEquals(written().split("\n"), [
    "denoise  1/20  5%  1 s, 19 s left",
    "denoise  6/20  30%  6 s, 14 s left",
    "denoise  11/20  55%  11 s, 9 s left",
    "denoise  16/20  80%  16 s, 4 s left",
    "denoise  20/20  100%  20 s",
    "",
  ]);
});

Deno.test("work that goes on is timed by what was done since; details stand at the end of the line", () => {
  const { stream, written } = fakeStream(false);
  let time = 0;
  const { onProgress, stop } = showProgress({ stream, now: () => time });
  onProgress({ stage: "train", done: 40, total: 100 });
  time += 10_000;
  onProgress({ stage: "train", done: 50, total: 100, detail: "loss 0.82" });
  stop();
  assertEquals(written(), "train  50/100  50%  10 s, 50 s left  loss 0.82\n");
});

Deno.test("what takes less than a second is not shown", () => {
  const { stream, written } = fakeStream(false);
  let time = 0;
  const { onProgress } = showProgress({ stream, now: () => time });
  for (const stage of ["load transformer", "load vae", "decode"] as const) {
    for (let done = 0; done <= 3; done++) {
      onProgress({ stage, done, total: 3 });
      time += 200;
    }
  }
  assertEquals(written(), "");
});

Deno.test("a stage that comes again is timed anew", () => {
  const { stream, written } = fakeStream(false);
  let time = 0;
  const { onProgress } = showProgress({ stream, now: () => time });
  for (let clip = 0; clip < 2; clip++) {
    onProgress({ stage: "decode", done: 0, total: 1 });
    time += 2000;
    onProgress({ stage: "decode", done: 1, total: 1 });
    time += 60_000;
  }
  assertEquals(written(), "decode  1/1  100%  2 s\ndecode  1/1  100%  2 s\n");
});

Deno.test("on a terminal: a bar with count, percentage and time left", async () => {
  const { stream, written } = fakeStream(true);
  const { onProgress, stop } = showProgress({ stream });
  onProgress({ stage: "denoise", done: 0, total: 4 });
  onProgress({ stage: "denoise", done: 1, total: 4 });
  await new Promise((resolve) => setTimeout(resolve, 1200));
  onProgress({ stage: "denoise", done: 2, total: 4 });
  await new Promise((resolve) => setTimeout(resolve, 300));
  stop();
  assertStringIncludes(written(), "denoise  ██████░░");
  assertStringIncludes(written(), "1/4  25%");
  assertStringIncludes(written(), "2/4  50%");
  assertStringIncludes(written(), " left");
  assert(!written().includes("\x1b[?25l"), "the cursor is hidden, and Ctrl-C would leave it so");
});

Deno.test("of a clip, all that is done is told from 0 to 1, from any stage on", () => {
  assertEquals(overall({ stage: "choose kernels", done: 1, total: 3 }), 0);
  assertEquals(overall({ stage: "load vae", done: 0, total: 3 }), 0);
  assertEquals(overall({ stage: "denoise", done: 0, total: 20 }, "encode prompt"), 6 / 93);
  assertEquals(overall({ stage: "load transformer", done: 1, total: 1 }, "encode prompt"), 0);
  assertEquals(overall({ stage: "write file", done: 5, total: 5 }), 1);
  assertEquals(overall({ stage: "train", done: 5, total: 5 }), undefined);
  const stages = ["load vae", "load transformer", "encode prompt", "denoise", "decode", "write file"] as const;
  const told = stages.flatMap((stage) => [0, 1, 2].map((done) => overall({ stage, done, total: 2 })!));
  assertEquals(told, told.toSorted((a, b) => a - b));
});

Deno.test("parts of larger work stand before the stage", () => {
  const { stream, written } = fakeStream(false);
  let time = 0;
  const { onProgress } = showProgress({ stream, now: () => time });
  const tell = partOf("a", partOf("prompt 1 of 2", onProgress));
  tell({ stage: "decode", done: 0, total: 1 });
  time += 2000;
  tell({ stage: "decode", done: 1, total: 1 });
  assertEquals(written(), "prompt 1 of 2, a, decode  1/1  100%  2 s\n");
});

Deno.test("durations read as people say them", () => {
  assertEquals([0.4, 59, 60, 185, 3600, 3725].map(formatDuration), [
    "0 s",
    "59 s",
    "1 min 00 s",
    "3 min 05 s",
    "1 h 00 min",
    "1 h 02 min",
  ]);
});

Deno.test("what is printed on a closed terminal goes nowhere, and other failures are told", () => {
  const failing = (message: string) => () => {
    throw new Error(message);
  };
  assertEquals(unlessClosed((text: string) => text.length, 0)("abc"), 3);
  assertEquals(unlessClosed(failing("Input/output error (os error 5)"), true)(), true);
  assertThrows(unlessClosed(failing("No space left on device (os error 28)"), true), Error, "No space left");
});
