import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { clipOptions } from "../../../tools/program/clip/clip_options.ts";
import { defineCommand } from "../../../tools/program/command.ts";
import { commandHelp } from "../../../tools/program/help.ts";
import { choice, flag, integer, many, number, path, text } from "../../../tools/program/options.ts";
import { parseCommand } from "../../../tools/program/parse.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { checkFrames, checkSize } from "../../../model/video_size.ts";

const table = {
  ...clipOptions,
  out: path({ group: "Output", value: "PATH", help: "Where to.", default: "out/", short: "o" }),
  quiet: flag({ group: "Output", help: "Say nothing.", short: "q" }),
};
const parse = (...args: string[]) => parseCommand(args, table, "tilereel generate");
const refuses = (message: string, ...args: string[]) => assertThrows(() => parse(...args), TilereelError, message);

Deno.test("options become typed values, the rest positional text", () => {
  const { values, positionals, help } = parse(
    "a cat",
    "--seed",
    "7",
    "--size=832x480",
    "-q",
    "--guidance",
    "2.5",
    "-o",
    "x.mp4",
  );
  assertEquals(values, { seed: 7, size: { width: 832, height: 480 }, quiet: true, guidance: 2.5, out: "x.mp4" });
  assertEquals([positionals, help], [["a cat"], false]);
});

Deno.test("text stays text: numbers, dashes, quotes, nothing, and what follows --", () => {
  assertEquals(parse("12").positionals, ["12"]);
  assertEquals(parse("--", "--seed", "-x").positionals, ["--seed", "-x"]);
  assertEquals(parse("--negative", "-5 degrees").values, { negative: "-5 degrees" });
  assertEquals(parse("-o", "-1.mp4", "--seed", "1").values, { out: "-1.mp4", seed: 1 });
  assertEquals(parse("--", "--seed", "-1").positionals, ["--seed", "-1"]);
  assertEquals(parse("--quiet", "--", "-1").positionals, ["-1"]);
  refuses('--seed must be a whole number from 0 to 4294967295, not "-1"', "--seed", "-1");
  refuses("-1 is not an option", "--quiet", "-1");
  assertEquals(parse("--negative=-blurry").values, { negative: "-blurry" });
  assertEquals(parse("--negative", "").values, { negative: "" });
  assertEquals(parse("--negative=").values, { negative: "" });
  assertEquals(parse("--negative", "a", "--negative", "", "x").positionals, ["x"]);
  assertEquals(parse("-o=x.mp4", "-q", "--no-quiet").values, { out: "x.mp4" });
  assertEquals(parse("-qo", "-").values, { quiet: true, out: "-" });
  assertEquals(parse("--", "-o=x", "--seed=").positionals, ["-o=x", "--seed="]);
  assertEquals(parse("--negative", '"007"').values, { negative: '"007"' });
});

Deno.test("given twice, the last counts", () => {
  assertEquals(parse("--seed", "1", "--seed", "2").values, { seed: 2 });
});

Deno.test("an option of many: every value counts, in order, and each is checked", () => {
  const several = {
    clip: many(choice({ group: "Some", choices: ["cat", "dog"], help: "Animals.", short: "c" })),
    quiet: flag({ group: "Some", help: "Say nothing." }),
  };
  const parse = (...args: string[]) => parseCommand(args, several, "x").values;
  assertEquals(parse("--clip", "dog", "-c", "cat", "--clip=dog"), { clip: ["dog", "cat", "dog"] });
  assertEquals(parse("--clip", "cat"), { clip: ["cat"] });
  assertEquals(parse("--quiet"), { quiet: true });
  const refuses = (message: string, ...args: string[]) => assertThrows(() => parse(...args), TilereelError, message);
  refuses('--clip must be cat or dog, not "cow"', "--clip", "cow", "--clip", "cat");
  refuses("--clip needs a value", "--clip", "cat", "--clip", "--quiet");
  refuses('--clip must be cat or dog, not ""', "--clip", "cat", "--clip=");
});

Deno.test("unknown options name the nearest that exists", () => {
  refuses('--sed is not an option of "tilereel generate": did you mean --seed?', "--sed", "4");
  refuses("did you mean --guidance?", "--guidence=3");
  refuses("did you mean --flow-shift?", "--flow");
  refuses('--zzzzzz is not an option of "tilereel generate"; see "tilereel generate --help"', "--zzzzzz");
  refuses("-x is not an option", "-x");
  refuses("--no-seed is not an option", "--no-seed");
});

Deno.test("options as other programs call them are answered with ours", () => {
  refuses('--width is not an option of "tilereel generate": did you mean --size?', "--width", "832");
  refuses("did you mean --guidance?", "--cfg-scale=6");
  refuses("did you mean --steps?", "--num_inference_steps", "20");
  refuses("did you mean --negative?", "--negative-prompt", "blur");
  refuses("did you mean --negative?", "-n", "blur");
});

Deno.test("options that there are none of yet say what there is instead", () => {
  refuses("--clip_vision is not needed: a model's folder has its image encoder", "--clip_vision=clip.safetensors");
  refuses("--vae-tiling is not needed: the picture is decoded in tiles", "--vae-tiling");
  refuses("--offload_model is not needed: weights that do not fit", "--offload_model");
});

Deno.test("missing and unexpected values", () => {
  refuses("--seed needs a value: --seed N", "--seed");
  refuses("--seed needs a value", "--seed", "--quiet");
  refuses("--out needs a PATH", "--out=");
  refuses("--quiet takes no value", "--quiet=3");
});

Deno.test("values out of range are refused with what is wanted", () => {
  refuses('--seed must be a whole number from 0 to 4294967295, not "1.5"', "--seed", "1.5");
  refuses('--seed must be a whole number from 0 to 4294967295, not "-1"', "--seed=-1");
  refuses('not "4294967296"', "--seed", "4294967296");
  refuses('--steps must be a whole number from 1 to 1000, not "0"', "--steps", "0");
  refuses('--guidance must be a number of at least 0, not "high"', "--guidance", "high");
  refuses("--guidance must be", "--guidance", "Infinity");
  refuses("--guidance must be", "--guidance", "0x10");
  refuses('--flow-shift must be a number above 0, not "0"', "--flow-shift", "0");
  refuses('--scheduler must be unipc, euler, lcm or dmd, not "eulr": did you mean euler?', "--scheduler", "eulr");
  refuses("--size must be a width and a height as in 832x480", "--size", "832");
  refuses(
    '--sigmas must be diffusers, wan, hunyuan, or falling numbers as in 1,0.75,0.5,0.25, not "wam": did',
    "--sigmas",
    "wam",
  );
  refuses("--sigmas must be falling numbers, each at most 1 and above 0", "--sigmas", "0.5,1");
  refuses("the last one is 0, which is added behind the last step", "--sigmas", "1,0.5,0");
});

Deno.test("sizes and frame counts that don't fit name the nearest that do", () => {
  refuses(
    "--size 100x90 does not fit: both must be multiples of 16; the nearest that fits is 96x96",
    "--size",
    "100x90",
  );
  refuses("--size 0x16 does not fit", "--size", "0x16");
  refuses(
    "--frames 30 does not fit: it must be a multiple of 4 plus 1; the nearest that fit are 29 and 33",
    "--frames",
    "30",
  );
  refuses("the nearest that fit are 29 and 33", "--frames", "32");
  const MULTIPLES = { side: 16, frames: 4 };
  for (const frames of [1, 5, 29, 81]) checkFrames(MULTIPLES, frames, "frames");
  assertThrows(() => checkFrames(MULTIPLES, 4, "frames"), TilereelError, "1 and 5");
  assertThrows(() => checkFrames(MULTIPLES, 0, "frames"), TilereelError, "the least is 1");
  assertThrows(() => checkFrames(MULTIPLES, NaN, "frames"), TilereelError, "does not fit");
  checkSize(MULTIPLES, 16, 1280, "size");
  assertThrows(() => checkSize(MULTIPLES, 7, 16, "size"), TilereelError, "16x16");
});

Deno.test("--help wins over everything that is wrong", () => {
  assertEquals(parse("--help", "--seed", "x").help, true);
  assertEquals(parse("-h", "--nope").help, true);
});

Deno.test("help shows every option with its default, and the examples", () => {
  const help = commandHelp(defineCommand({
    name: "tilereel generate",
    description: "Renders.",
    positional: "PROMPT",
    options: {
      ...table,
      n: number({ group: "More", value: "X", help: "A number." }),
      i: integer({ group: "More", value: "N", help: "An integer." }),
      t: text({ group: "More", value: "T", help: "A text." }),
      c: choice({ group: "More", choices: ["a", "b"], help: "A or b.", default: "a" }),
    },
    examples: { "tilereel generate x": "An x." },
    run: () => Promise.resolve(0),
  }));
  for (const name of Object.keys(table)) assertStringIncludes(help, `--${name}`);
  for (
    const part of [
      "Usage: tilereel generate PROMPT [options]",
      "More:",
      "--c a|b",
      "(default: a)",
      "An x.",
      "-o, --out PATH",
    ]
  ) {
    assertStringIncludes(help, part);
  }
  assert(help.split("\n").every((line) => line.length <= 100), "a line is longer than 100 columns");
});
