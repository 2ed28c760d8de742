/**
 * `deno task dawn`: downloads Dawn, on which `--gpu dawn` runs, to the folder where it is looked for. Only the addon for
 * one system is kept of the npm package.
 *
 * It runs with `--no-lock`, because packages in `deno.lock` are downloaded with every fresh clone, and few users need
 * these 51 MB.
 *
 * @module
 */
import { cp, mkdir, rename, rm } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { path, text } from "./program/options.ts";
import { runAsProgram } from "./program/run_command.ts";
import { TilereelError } from "../gpu/common/errors.ts";
import { DAWN_FOLDER } from "../gpu/native/dawn_addon.ts";

/** The only place that names the version. The import map must not, for the same reason. */
const PACKAGE = "npm:webgpu@0.6.2";
const ROOT = join(import.meta.dirname!, "..");

const options = {
  out: path({ value: "DIR", help: "Where to put it.", default: "node_modules/webgpu" }),
  platform: text({ value: "NAME", help: "linux-x64, linux-arm64, …", default: "this system's" }),
};

if (import.meta.main) {
  await runAsProgram({
    name: "deno task dawn",
    options,
    run: ({ out = join(ROOT, "node_modules", "webgpu"), platform }) => install(out, platform),
  });
}

async function install(folder: string, platform?: string): Promise<void> {
  const part = platform === undefined ? DAWN_FOLDER : join("dist", platform);
  const source = await download();
  // It is copied beside the folder first, so that it is there as a whole or not at all.
  const unfinished = `${folder}.part`;
  try {
    await mkdir(unfinished, { recursive: true });
    await cp(join(source, part), join(unfinished, part), { recursive: true }).catch(() => {
      throw new TilereelError(`${PACKAGE} has no ${part}, so there is no Dawn for that system`);
    });
    for (const name of ["package.json", "LICENSE.md"]) await cp(join(source, name), join(unfinished, name));
    await rm(folder, { recursive: true, force: true });
    await rename(unfinished, folder);
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
  console.log(`${relative(".", join(folder, part)) || "."}: Dawn of ${PACKAGE}`);
}

/** The package's folder in Deno's cache. */
async function download(): Promise<string> {
  const manifest = `${PACKAGE}/package.json`;
  try {
    // This imports the manifest, because the package itself would load the addon for this system.
    await import(manifest, { with: { type: "json" } });
  } catch (cause) {
    const [reason] = (cause as Error).message.split("\n");
    throw new TilereelError(`${PACKAGE} could not be downloaded: ${reason}`);
  }
  return dirname(fileURLToPath(import.meta.resolve(manifest)));
}
