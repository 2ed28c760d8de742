import { assertEquals, assertThrows } from "@std/assert";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { COMMANDS } from "../../../cli/command_table.ts";
import { batchOptions, requestOptions } from "../../../tools/program/clip/batch_options.ts";
import { checkPrompt } from "../../../tools/program/clip/clip_settings.ts";
import { checkClip } from "../../../model/video_size.ts";
import { readyAttention } from "../../../tools/program/clip/attention_options.ts";
import { gpuOptions } from "../../../tools/program/gpu_options.ts";
import { readValues, withKeys } from "../../../tools/program/clip/read_values.ts";
import type { Option } from "../../../tools/program/options.ts";
import { parseCommand } from "../../../tools/program/parse.ts";

async function allOptions(): Promise<[name: string, option: Option<unknown>][]> {
  const entries = Object.values(COMMANDS).flatMap((one) => "commands" in one ? Object.values(one.commands) : [one]);
  const loaded = await Promise.all(entries.map((entry) => entry.load()));
  return loaded.flatMap(({ command }) => Object.entries(command.options));
}

Deno.test("an option is data: what a form shows is what its parser takes", async () => {
  const { steps, scheduler, "flow-shift": shift, size } = batchOptions;
  assertEquals([steps.kind, steps.min, steps.max, steps.scope], ["integer", 1, 1000, "clip"]);
  assertEquals([scheduler.kind, scheduler.choices, scheduler.value], [
    "choice",
    ["unipc", "euler", "lcm", "dmd"],
    "unipc|euler|lcm|dmd",
  ]);
  assertEquals([shift.kind, shift.above, shift.max], ["number", 0, undefined]);
  assertEquals([size.kind, size.unit, size.value], ["notation", "pixels", "WxH"]);
  assertEquals(Object.values(batchOptions).filter(({ scope }) => scope !== "clip"), []);
  assertEquals(gpuOptions("GPU").gpu.scope, "process");

  const options = await allOptions();
  for (const [name, option] of options) {
    const takes = (value: string | number) => option.parse(String(value), name);
    const refuses = (value: number) => assertThrows(() => takes(value), TilereelError, name);
    assertEquals(option.kind === "flag", option.value === undefined, name);
    for (const choice of option.choices ?? []) takes(choice);
    if (typeof option.default === "number") takes(option.default);
    if (option.above !== undefined) refuses(option.above);
    if (option.min !== undefined) refuses(option.min - 1);
    if (option.max !== undefined) refuses(option.max + 1);
    for (const limit of [option.min, option.max]) if (limit !== undefined) takes(limit);
  }
  assertEquals(options.length > 100, true);
});

Deno.test("options of a remote caller name no files; an error about one carries its name", async () => {
  const { router: _, tiles: __, count: ___, image: ____, "last-image": _____, ...others } = batchOptions;
  assertEquals(Object.keys(requestOptions), ["prompt", ...Object.keys(others)]);
  const optionOf = async (work: () => unknown) => {
    try {
      await work();
    } catch (error) {
      return (error as TilereelError).option;
    }
  };
  const refused = (given: Record<string, unknown>) => optionOf(() => readValues(given, requestOptions, "request"));
  assertEquals(await refused({ flow_shift: 0 }), "flow-shift");
  assertEquals(await refused({ frames: [true] }), "frames");
  assertEquals(await refused({ router: "/etc/passwd" }), "router");
  assertEquals(await refused({ steps: 3, sigmas: [1, 0.5] }), "sigmas");
  assertEquals(await optionOf(() => parseCommand(["--steps", "0"], requestOptions, "x")), "steps");
  assertEquals(await optionOf(() => checkPrompt(" ")), "prompt");
  assertEquals(await optionOf(() => readyAttention({ attention: "veda", tau: 0.5 }, ".")), "tau");
  assertEquals(await optionOf(() => readyAttention({ attention: "vorta" }, ".")), "attention");
  assertEquals(await optionOf(() => readyAttention({ router: "no/such" }, ".")), "router");
  assertEquals(await optionOf(() => readyAttention({ tiles: "no/such" }, ".")), "tiles");
  assertEquals(await optionOf(() => readyAttention({ attention: "coreset", rate: 1 }, ".")), "rate");
  const message = await readyAttention({ tau: 0.5 }, ".").then(() => "none", (error) => error.message);
  assertEquals(
    withKeys(message, requestOptions),
    '"tau" has no effect with "attention" full: leave it out, or use "attention" vorta',
  );
  assertEquals(
    withKeys("--router FILE, --no-such and -- stay", requestOptions),
    "--router FILE, --no-such and -- stay",
  );
  const check = (where?: string) => checkClip({ side: 16, frames: 4 }, { width: 32, height: 32, frames: 4 }, where);
  assertEquals(await optionOf(() => check()), "frames");
  assertEquals(await optionOf(() => check("a file: ")), undefined);
});
