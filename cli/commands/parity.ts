import { embeddedModelDir } from "../../model/embedded.ts";
import { type Check, passes } from "../../model/parity/case.ts";
import { planParity, runParity } from "../../model/parity/parity.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { gpuOptions, openGpuAsAsked } from "../../tools/program/gpu_options.ts";
import { flag, many, type OptionValues, path, text } from "../../tools/program/options.ts";

const options = {
  model: path({
    group: "Model",
    short: "m",
    value: "DIR",
    help: "The model that made the references named demo_* and tokens.json.",
    default: "the embedded demo model",
  }),
  skip: many(text({
    group: "Checks",
    value: "CASE",
    help: "A case to skip, by the name of its file, such as vorta_train. It may be given several times.",
  })),
  ...gpuOptions("Model"),
  json: flag({ group: "Output", help: "Print one JSON object per check instead of lines." }),
};

/** The folder of the project's own references in a checkout. */
const DEFAULT_FOLDER = "tests/fixtures";

/** `tilereel parity`: compares every part with reference tensors. */
export const command = defineCommand({
  name: "tilereel parity",
  description: "Compares every part of a model with reference tensors made by diffusers and others. " +
    "The exit status is 1 if an error is larger than its bound.",
  positional: "[DIR]",
  completion: "folder",
  options,
  examples: {
    "tilereel parity": "Checks the project's own references, in a checkout of tilereel.",
    "tilereel parity refs --model my-model": "Checks references made from another model.",
    "tilereel parity --gpu gl": "Runs on OpenGL instead of Vulkan.",
  },
  notes:
    "Errors are ‖out − reference‖ / ‖reference‖, over all numbers, then over the row with the largest error. Adapters " +
    "with shader-f16 are also checked in f16. Bounds are about five times what the project's own references give: " +
    "another model's parts may exceed them without being wrong.",
  run,
});

async function run(
  values: OptionValues<typeof options>,
  [folder = DEFAULT_FOLDER]: readonly string[],
): Promise<number> {
  const { json = false } = values;
  const plan = await planParity(folder, values.skip);
  using gpus = new DisposableStack();
  const open = async (precision: "f32" | "f16") =>
    gpus.adopt(await openGpuAsAsked({ ...values, precision }), (gpu) => gpu.close());
  const gpu = await open("f32");
  const { name, features } = gpu.settings.description;
  if (!json) console.log(`${name}: ${plan.runs.length} cases in ${folder}`);
  const context = {
    gpus: [gpu, ...features.includes("shader-f16") ? [await open("f16")] : []] as const,
    model: values.model ?? embeddedModelDir(),
  };
  let count = 0, failed = 0;
  for await (const check of runParity(plan, context)) {
    count++;
    if (!passes(check)) failed++;
    console.log(json ? JSON.stringify({ ...check, pass: passes(check) }) : line(check));
  }
  if (!json) {
    if (plan.unknown.length > 0) console.log(`not checked, because there is no such case: ${plan.unknown.join(", ")}`);
    console.log(`${count - failed} of ${count} checks pass`);
  }
  return failed === 0 ? 0 : 1;
}

function line(check: Check): string {
  const { name, value, unit, bound } = check;
  const [shown, limit] = {
    relative: [value.toExponential(2), `bound ${bound.toExponential(1)}`],
    dB: [`${value.toFixed(1)} dB`, `bound ${bound} dB`],
    differing: [`${value} differ`, `bound ${bound}`],
  }[unit];
  return `${name.padEnd(60)} ${shown!.padStart(10)}   ${limit!.padEnd(12)}   ${passes(check) ? "pass" : "FAIL"}`;
}
