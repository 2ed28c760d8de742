/**
 * Builds the page into a folder of static files: `deno task web [FOLDER]`.
 *
 * @module
 */
import { join, relative, resolve } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";
import { bundle, ROOT, stageDemoModel } from "../stage_program.ts";

/** Files that are copied as they are. */
const STATIC = ["index.html", "style.css"];

/** What a page does not need of the demo model. */
const UNUSED = ["text_encoder/model.onnx", "README.md"];

/**
 * Fills `folder` with the page, its worker, and the demo model with a list of its files.
 *
 * @throws {TilereelError} when the sources cannot be bundled
 */
export async function buildPage(folder: string): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  for (const module of ["page", "worker"]) {
    await bundle("browser", "--minify", "--output", join(folder, `${module}.js`), `tools/web/${module}.ts`);
  }
  for (const name of STATIC) await Deno.copyFile(join(ROOT, "tools", "web", name), join(folder, name));
  await stageDemoModel(folder);
  const demo = join(folder, "demo");
  for (const name of UNUSED) await Deno.remove(join(demo, name));
  await Deno.writeTextFile(join(demo, "files.json"), JSON.stringify(await filesIn(demo)));
}

/** The paths of all files under a folder, with slashes. */
async function filesIn(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (isDirectory) found.push(...(await filesIn(join(folder, name))).map((inner) => `${name}/${inner}`));
    else found.push(name);
  }
  return found.sort();
}

if (import.meta.main) {
  const folder = resolve(Deno.args[0] ?? join(ROOT, "dist", "web"));
  try {
    await buildPage(folder);
    console.log(`${folder}`);
    console.log(`Serve it from localhost or over https: npx --yes http-server ${relative(Deno.cwd(), folder) || "."}`);
  } catch (error) {
    if (!(error instanceof TilereelError)) throw error;
    console.error(`tilereel: ${error.message}`);
    Deno.exit(1);
  }
}
