import { didYouMean, mistakesBetween } from "../../../gpu/common/nearest.ts";
import { assertEquals } from "@std/assert";

const OPTIONS = [
  "out",
  "model",
  "gpu",
  "seed",
  "steps",
  "size",
  "frames",
  "fps",
  "guidance",
  "flow-shift",
  "tau",
  "keep",
];
const COMMANDS = ["generate", "compare", "train", "search", "info", "parity"];

Deno.test("mistakes are counted: letters wrong, missing, too many, swapped", () => {
  for (
    const [a, b, mistakes] of [
      ["", "", 0],
      ["", "abc", 3],
      ["steps", "steps", 0],
      ["stpes", "steps", 1],
      ["step", "steps", 1],
      ["stepps", "steps", 1],
      ["stebs", "steps", 1],
      ["setsp", "steps", 2],
      ["ca", "abc", 3],
      ["kitten", "sitting", 3],
    ] as const
  ) {
    assertEquals([mistakesBetween(a, b), mistakesBetween(b, a)], [mistakes, mistakes], `${a}, ${b}`);
  }
});

Deno.test("a near name is guessed", () => {
  for (
    const [given, names, meant] of [
      ["stpes", OPTIONS, "steps"],
      ["sed", OPTIONS, "seed"],
      ["Seed", OPTIONS, "seed"],
      ["frmaes", OPTIONS, "frames"],
      ["guidence", OPTIONS, "guidance"],
      ["flowshift", OPTIONS, "flow-shift"],
      ["gui", OPTIONS, "guidance"],
      ["modle", OPTIONS, "model"],
      ["genrate", COMMANDS, "generate"],
      ["gen", COMMANDS, "generate"],
      ["tarin", COMMANDS, "train"],
      ["inof", COMMANDS, "info"],
    ] as const
  ) assertEquals(didYouMean(given, names), `: did you mean ${meant}?`, given);
});

Deno.test("no guess where no name is near", () => {
  for (
    const [given, names] of [
      ["foo", COMMANDS],
      ["render", COMMANDS],
      ["help-me", COMMANDS],
      ["x", OPTIONS],
      ["z", ["x", "y"]],
      ["mode", ["tau", "seed"]],
      ["lora", OPTIONS],
      ["image", OPTIONS],
      ["a red circle moving right", COMMANDS],
      ["s".repeat(100_000), OPTIONS],
    ] as const
  ) assertEquals(didYouMean(given, names), "", given.slice(0, 30));
});
