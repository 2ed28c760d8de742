/**
 * `tilereel info`: the adapters of this machine, and what a model folder holds.
 *
 * @module
 */
import { type AdapterDescription, listAdapters } from "../../gpu/device.ts";
import { formatBytes } from "../../gpu/memory.ts";
import { defineCommand } from "../command.ts";
import { describeModel, type ModelDescription } from "../model_description.ts";
import { flag, type OptionValues } from "../options.ts";
import { textTable } from "../text_table.ts";

const options = {
  json: flag({ group: "Output", help: "Print one JSON object instead of tables." }),
};

/** See the module. */
export const command = defineCommand({
  name: "info",
  description: "Shows the GPU adapters of this machine with their features and limits and, given a model folder, its " +
    "parts with their weights, and its defaults. No weights are read.",
  positionals: "[MODEL_DIR]",
  maxPositionals: 1,
  options,
  examples: [
    { line: "tilereel info", does: "The adapters, best first." },
    { line: "tilereel info Wan2.1-T2V-1.3B-Diffusers", does: "Also what that model holds." },
    { line: "tilereel info --json | jq '.adapters[0].name'", does: "The name of the best adapter." },
  ],
  run,
});

async function run({ json = false }: OptionValues<typeof options>, [folder]: readonly string[]): Promise<number> {
  const model = folder === undefined ? undefined : await describeModel(folder);
  const adapters = await listAdapters();
  if (json) console.log(JSON.stringify({ adapters, ...model && { model } }, null, 2));
  else console.log([adaptersText(adapters), ...model ? [modelText(model)] : []].join("\n\n"));
  return 0;
}

function adaptersText(adapters: readonly AdapterDescription[]): string {
  if (adapters.length === 0) {
    return "No WebGPU adapter: install a Vulkan driver for your GPU, or software rendering " +
      "(on Debian and Ubuntu: apt install libegl1 libgl1-mesa-dri).";
  }
  return adapters.map((adapter, i) => {
    const rows = [
      ["kind", adapter.software ? "software (runs on the CPU)" : "GPU"],
      ["features", adapter.features.join(", ") || "none of those tilereel can use"],
      ...Object.entries(adapter.limits).map(([name, value]) => [name, formatLimit(name, value)]),
    ];
    return `Adapter ${i + 1}: ${adapter.name}\n${textTable(rows)}`;
  }).join("\n\n");
}

function modelText(model: ModelDescription): string {
  const parts = [
    ["part", "parameters", "stored as", "files", "size"],
    ...model.components.map(({ name, parameters, dtypes, files }) => [
      name,
      formatCount(parameters),
      dtypes.join(", "),
      String(files.length),
      formatBytes(files.reduce((sum, file) => sum + file.bytes, 0)),
    ]),
  ];
  const { width, height, frames, fps, steps, guidance, textTokens } = model.defaults;
  return [
    `Model: ${model.path}`,
    textTable(parts),
    `  without weights: ${model.withoutWeights.join(", ") || "nothing"}${
      model.missing.length > 0 ? `; missing: ${model.missing.join(", ")}` : ""
    }`,
    `  defaults: ${width}x${height}, ${frames} frames at ${fps} fps, ${steps} steps, guidance ${guidance}, ` +
    `${textTokens} text tokens`,
  ].join("\n");
}

function formatLimit(name: string, value: number): string {
  return /Size$/.test(name) ? formatBytes(value) : String(value);
}

function formatCount(count: number): string {
  for (const [unit, size] of [[" billion", 1e9], [" million", 1e6], [" thousand", 1e3]] as const) {
    if (count >= size) return (count / size).toFixed(2) + unit;
  }
  return String(count);
}
