/**
 * Builds the page into a folder of static files, and serves it on request: `deno task web --help`.
 *
 * @module
 */
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { bundle, ROOT } from "../program/bundle.ts";
import { stageDemoModel } from "../stage_program.ts";
import { serveFolder } from "./serve_folder.ts";

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

const HELP = `Builds the page that renders clips in a browser, as static files.

usage: deno task web [FOLDER] [--serve] [--port N]

FOLDER is dist/web by default. --serve also serves it on this machine, at port 8000 or N.`;

/** Builds the page as the command line says, and serves it if it says so. */
async function main(args: readonly string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      serve: { type: "boolean" },
      port: { type: "string", default: "8000" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return console.log(HELP);
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new TilereelError(`--port is ${quoted(values.port)}, but a number from 0 to 65535 was expected`);
  }
  const folder = resolve(positionals[0] ?? join(ROOT, "dist", "web"));
  await buildPage(folder);
  console.log(folder);
  if (!values.serve) {
    console.log("Any server of static files can serve it, over https or from localhost. Next: deno task web --serve");
    return;
  }
  const { addr } = serveFolder(folder, port);
  console.log(`Open http://localhost:${addr.port}/ in a browser with WebGPU. Ctrl-C ends the server.`);
}

if (import.meta.main) {
  try {
    await main(Deno.args);
  } catch (error) {
    const { code } = error as { code?: string };
    const own = error instanceof TilereelError || error instanceof Deno.errors.AddrInUse ||
      code?.startsWith("ERR_PARSE_ARGS");
    if (!own) throw error;
    console.error(`tilereel: ${(error as Error).message}`);
    Deno.exit(1);
  }
}
