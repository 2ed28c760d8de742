/**
 * `deno task pack`: makes `dist/tilereel-VERSION.tgz`, an npm package for Deno with the library, its types, the command
 * line and the demo model. All that it imports is bundled, so it has no dependencies.
 *
 * Deno runs no TypeScript out of node_modules: hence JavaScript with declarations beside it.
 *
 * @module
 */
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import config from "../deno.json" with { type: "json" };
import { flag, type OptionValues, path } from "./program/options.ts";
import { checkWritable, writeAtomically } from "../model/files/output.ts";
import { runAsProgram } from "./program/run_command.ts";
import { writeTypes } from "./pack_types.ts";
import { ROOT } from "./program/bundle.ts";
import { archiveOf, stageModules } from "./stage_program.ts";

const options = {
  out: path({
    value: "FILE",
    help: "Where to write it.",
    default: `dist/tilereel-${config.version}.tgz`,
  }),
  untyped: flag({ help: "Leave out the declarations, for which TypeScript is downloaded." }),
};

if (import.meta.main) await runAsProgram({ name: "deno task pack", options, run: pack });

async function pack(values: OptionValues<typeof options>): Promise<void> {
  const out = values.out ?? join("dist", `tilereel-${config.version}.tgz`);
  await checkWritable(out, { asFile: true });
  const folder = await Deno.makeTempDir({ prefix: "tilereel-pack-" });
  try {
    const content = join(folder, "package");
    await stagePackage(content, !values.untyped);
    const { archive } = await archiveOf(folder, ["package"]);
    await writeAtomically(out, (temporary) => Deno.writeFile(temporary, archive));
    console.log(`${out}: ${(archive.length / 1e6).toFixed(1)} MB`);
    console.log(`Install it in a project: npm install ${resolve(out)}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function stagePackage(folder: string, types: boolean): Promise<void> {
  await Deno.mkdir(join(folder, "licenses"), { recursive: true });
  await stageModules(folder);
  if (types) {
    await writeTypes(join(folder, "types"));
    // If the module is imported by its path, no package.json says where its types are.
    const module = join(folder, "mod.js");
    await Deno.writeTextFile(module, `/* @ts-self-types="./types/mod.d.ts" */\n${await Deno.readTextFile(module)}`);
  }
  for (const name of ["README.md", "LICENSE"]) await Deno.copyFile(join(ROOT, name), join(folder, name));
  await copyLicenses(join(folder, "licenses"));
  await Deno.copyFile(join(import.meta.dirname!, "pack_launcher.js"), join(folder, "bin.js"));
  await Deno.chmod(join(folder, "bin.js"), 0o755).catch(() => {/* Windows has no modes */});
  const manifest = {
    name: "tilereel",
    version: config.version,
    description: "Text to video with Wan 2.1 or HunyuanVideo and sparse attention on WebGPU, for Deno",
    license: config.license,
    type: "module",
    exports: {
      ".": { ...types && { types: "./types/mod.d.ts" }, default: "./mod.js" },
      "./package.json": "./package.json",
    },
    ...types && { types: "./types/mod.d.ts" },
    bin: { tilereel: "bin.js" },
    engines: { deno: ">=2.9" },
  };
  await Deno.writeTextFile(join(folder, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
}

/** The licences of bundled packages. */
async function copyLicenses(folder: string): Promise<void> {
  const names = Object.entries(config.imports).filter(([, target]) => target.startsWith("npm:")).map(([name]) => name);
  for (const name of names) {
    const [, home, id] = /^(.*\/((?:@[^/]+\/)?[^/@]+)\/\d+\.\d+\.\d+[^/]*\/)/.exec(import.meta.resolve(name)) ?? [];
    if (home === undefined) continue;
    for await (const { name } of Deno.readDir(fileURLToPath(home))) {
      if (!/^(licen[cs]e|copying|notice)/i.test(name)) continue;
      await Deno.copyFile(fileURLToPath(new URL(name, home)), join(folder, `${id!.replace("/", "-")}-${name}`));
    }
  }
}
