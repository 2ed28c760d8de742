/**
 * `deno task kernels`: lists the families of kernels with their variants, or prints the WGSL of one kernel. Needs no GPU.
 *
 * @module
 */
import { choice, type OptionValues } from "../tools/program/options.ts";
import { textTable } from "../tools/program/text_table.ts";
import { FAMILIES } from "../gpu/tuning/families.ts";
import { kernelNamed } from "./kernels/named.ts";
import { type Modules, type RecordedVariant, recordFamilies, recordModel } from "./kernels/recorded.ts";
import { runAsProgram } from "../tools/program/run_command.ts";

const options = {
  source: choice({
    choices: ["dawn", "deno"],
    help: "The compiler that the WGSL is for: Dawn's, or Deno's, which has no matrix units.",
    default: "dawn",
  }),
};

if (import.meta.main) {
  await runAsProgram({
    name: "deno task kernels",
    options,
    positional: "[NAME]",
    notes:
      "Lists the families of kernels with their variants, and the other kernels that encode prompts, render clips and " +
      "train routers. With NAME, prints the whole WGSL module of one kernel: NAME is the name of a kernel or of a " +
      "variant, or the beginning of one.",
    run: main,
  });
}

async function main(values: OptionValues<typeof options>, [name]: readonly string[]): Promise<void> {
  const modules: Modules = new Map();
  const variants = await recordFamilies(values.source ?? "dawn", modules);
  if (name === undefined || !modules.has(name)) await recordModel(values.source ?? "dawn", modules);
  console.log(
    name === undefined ? list(variants, modules) : modules.get(kernelNamed(name, variants, modules))!.trimEnd(),
  );
}

function list(variants: readonly RecordedVariant[], modules: Modules): string {
  const shown = new Set(variants.flatMap(({ kernels }) => kernels));
  const families = FAMILIES.map(({ name }) => {
    const own = variants.filter(({ family }) => family === name);
    const rows = Map.groupBy(own, ({ name, kernels }) => JSON.stringify([name, kernels]));
    const cells = [...rows.values()].map((row) => [
      row[0]!.name,
      row.map(({ device }) => device).join(", "),
      row[0]!.kernels.join(", "),
    ]);
    return `Family ${name}:\n${textTable([["variant", "devices", "kernels"], ...cells])}`;
  });
  const others = [...modules.keys()].filter((name) => !shown.has(name)).sort();
  return [...families, `Other kernels:\n${others.map((name) => `  ${name}`).join("\n")}`].join("\n\n");
}
