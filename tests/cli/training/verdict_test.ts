import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { integer, path } from "../../../tools/program/options.ts";
import { TrainingLog } from "../../../cli/training/log_summary.ts";
import { nextClips, samplingOptionsGiven, sharedOptions } from "../../../cli/training/next_commands.ts";
import { LOST } from "../../../cli/training/lost_in_clips.ts";
import { lineOf } from "../../../tools/program/command_line.ts";
import { closerOptions, routerVerdict } from "../../../cli/training/router/summary.ts";
import { searchVerdict } from "../../../cli/training/search/summary.ts";
import { tilesVerdict } from "../../../cli/training/tiles/summary.ts";
import { type Verdict, verdictText } from "../../../cli/training/summary.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { inTempDir, ROOT } from "../../process.ts";

const falling = (last: number) => ({ first: 2 * last, last });
const has = (verdict: Verdict, grade: Verdict["grade"], ...words: string[]) => {
  const text = verdictText(verdict);
  assertEquals(verdict.grade, grade, text);
  for (const word of words) assertStringIncludes(text, word);
};

Deno.test("the verdict on a router: the figures of docs/quality.md, and what is worse", () => {
  const verdict = (distillation: number, density: number, rest = {}) =>
    routerVerdict({
      ...{ steps: 100, loss: falling(1), distillation: falling(distillation), distilled: true, density },
      ...rest,
    });
  has(verdict(0.003, 0.36), "good", "Verdict: usable. ", "26.7 dB");
  has(verdict(0.0014, 0.93), "fair", "as slow", "--density 0.4");
  has(verdict(0.006, 0.4), "fair", "2.0 times", "higher --tau");
  // Where nearly all pairs are kept, more of them are no advice, nor is an aim that it has already.
  const late =
    "It has not come to --density 0.33: more steps bring it there, and a higher --regularization-weight sooner.";
  const fewer = "Aim at fewer pairs: --density 0.4.";
  for (const loss of [0.001, 0.006, 0.03]) {
    assertEquals(verdict(loss, 0.99).advice, [fewer]);
    assertEquals(verdict(loss, 0.99, { aim: 0.95 }).advice, [fewer]);
    assertEquals(verdict(loss, 0.99, { aim: 0.33 }).advice, [late]);
  }
  has(verdict(0.03, 0.3), "poor", "not usable yet", "random routes");
  has(verdict(0.001, 0.5, { steps: 10 }), "unknown", "Train longer", "--resume");
  has(verdict(0.001, 0.5, { distilled: false }), "unknown", "Without a distillation loss");
  has(verdict(0.001, 0.5, { loss: { first: 1, last: 2 } }), "good", "Lower --lr");
  assertEquals(verdict(0.003, 0.36).advice, []);
});

Deno.test("the verdict on scores of tiles: the figures of docs/quality.md, and what is worse", () => {
  const verdict = (recall: number, kept: number, keep: number, rest = {}) =>
    tilesVerdict({
      ...{ steps: 500, loss: falling(0.1), recall: { first: 0.3, last: recall }, kept: falling(kept), keep },
      ...{ planned: true, ...rest },
    });
  has(
    verdict(0.936, 0.606, 0.2),
    "good",
    "94 %",
    "61 %",
    "with 60 %, the demo model's clips lost at most 3 of 96 shapes",
  );
  has(verdict(0.92, 0.482, 0.1), "fair", "with 48 % 2 of 96 shapes and 3 motions", "--keep");
  has(verdict(0.903, 0.384, 0.05), "poor", "38 %");
  has(verdict(0.3, 0.7, 0.25), "poor", "blind choice");
  has(verdict(0.936, 0.606, 0.2, { steps: 20 }), "unknown", "--resume");
  has(verdict(0.936, 0.606, 0.2, { planned: false }), "good", "search tiles");
  has(verdict(0.936, 0.606, 0.2, { recall: { first: 0.935, last: 0.936 } }), "good", "second-order");
  assertEquals(verdict(0.936, 0.606, 0.2).advice, []);
});

Deno.test("what the verdicts say that clips lost at 256x256 is what docs/quality.md has of 64 prompts", async () => {
  const text = await Deno.readTextFile(join(ROOT, "docs/quality.md"));
  const table = text.slice(text.indexOf("64 prompts at 128×128, 64 prompts at 256×256"));
  const right = (attention: string) => {
    const row = table.split("\n").find((line) => line.startsWith(`| 256×256 | ${attention} `))!;
    return row.split("|").slice(7, 9).map((cell) => Math.round(0.96 * Number.parseFloat(cell)));
  };
  const [full, veda] = [right("full"), right("veda keep=0.25")];
  assertEquals(full.map((count, i) => count - veda[i]!), [3, 0]);
  assertEquals(LOST.good, "at most 3 of 96 shapes and no motion");
});

Deno.test("the verdict on shapes of tiles", () => {
  const verdict = (ours: number, theirs: number) => searchVerdict({ ours, theirs, keep: 0.25, single: "2x4x4" });
  has(verdict(0.095, 0.11), "good", "9.5 %", "with up to 12 %, the demo model's clips lost at most 3 of 96 shapes");
  has(verdict(0.175, 0.19), "fair", "--keep");
  has(verdict(0.265, 0.3), "poor");
  has(verdict(0.175, 0.175), "fair", "--tile-shape 2x4x4");
});

Deno.test("a router's next commands have dense steps where these are few of all, and compare without them, too", () => {
  assertEquals([3, 19, 20, 50].map((steps) => closerOptions({ steps })["dense-steps"]), [
    undefined,
    undefined,
    "2",
    "2",
  ]);
  assertEquals(closerOptions({ steps: 20 }, 0.1), {});
  const lines = (steps: number) =>
    nextClips({}, { prompt: "a cat", steps }, "vorta", { router: "r" }, closerOptions({ steps }));
  assertEquals(lines(20), [
    "tilereel compare 'a cat' --setting full --setting 'vorta router=r' --setting 'vorta router=r dense-steps=2'",
    "tilereel generate 'a cat' --router r --dense-steps 2",
  ]);
  assertEquals(lines(4), [
    "tilereel compare 'a cat' --setting full --setting 'vorta router=r'",
    "tilereel generate 'a cat' --router r",
  ]);
});

Deno.test("a log's first and last steps; a damaged one is refused", () =>
  inTempDir(async (dir) => {
    const write = (count: number, end = "") => {
      const lines = Array.from({ length: count }, (_, i) => `${JSON.stringify({ loss: i })}\n`);
      return Deno.writeTextFile(join(dir, "log"), lines.join("") + end);
    };
    const read = () => TrainingLog.read<{ loss: number }>(join(dir, "log"));
    for (const [count, window, first, last] of [[1, 1, 0, 0], [5, 2, 0.5, 3.5], [100, 20, 9.5, 89.5]] as const) {
      await write(count);
      const log = await read();
      assertEquals([log.window, log.trend(({ loss }) => loss)], [window, { first, last }]);
    }
    await write(3, '{"lo');
    await assertRejects(read, TilereelError, "is damaged: a line is not JSON");
  }));

Deno.test("the next command has the user's own options, as they were typed", () => {
  const table = {
    model: path({ group: "", help: "", value: "DIR", short: "m" }),
    prompts: path({ group: "", help: "", value: "FILE", short: "p" }),
    size: path({ group: "", help: "", value: "WxH" }),
    negative: path({ group: "", help: "", value: "TEXT" }),
    "sampling-steps": integer({ group: "", help: "", value: "N" }),
    steps: integer({ group: "", help: "", value: "N" }),
  };
  const args = ["train", "tiles", "-m", "my models/wan", "--size=64x32", "--sampling-steps", "8", "--steps", "9"]
    .concat(["--prompts", "p.txt", "--size", "32x32", "--negative=-blurred"]);
  const line = lineOf("generate", "it's a cat", ...sharedOptions(table, args));
  assertEquals(
    line,
    `tilereel generate 'it'\\''s a cat' --model 'my models/wan' --size 32x32 --negative=-blurred --steps 8`,
  );
  // What a line of a prompts file says of its clip goes first.
  const own = { size: { width: 128, height: 64 }, negative: "-dark", steps: 3, seed: 5, fps: 8 };
  assertEquals(
    sharedOptions(table, args, own).slice(2).join(" "),
    "--size 128x64 --negative=-dark --steps 3",
  );
  const sampled = samplingOptionsGiven(table, args).join(" ");
  assertEquals(sampled, "--prompts p.txt --model my models/wan --size 32x32 --negative=-blurred --sampling-steps 8");
  assert(!sampled.includes("9"));
});
