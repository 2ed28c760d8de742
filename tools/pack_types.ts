import { join } from "node:path";
import { TilereelError } from "../gpu/common/errors.ts";
import { ROOT } from "./program/bundle.ts";

/** In neither import map nor lock file, because what these name is downloaded with every fresh clone: this has 23 MB. */
const TYPESCRIPT = "npm:typescript@5.9.3/tsc";

/**
 * Writes the library's declarations into `folder`: `mod.d.ts`, and one for every module that it takes types from.
 *
 * @throws {TilereelError} when TypeScript cannot be had or makes none
 */
export async function writeTypes(folder: string): Promise<void> {
  const options = {
    declaration: true,
    emitDeclarationOnly: true,
    // deno check checks the checkout; here the types of Deno and of packages are not known.
    noCheck: true,
    skipLibCheck: true,
    allowImportingTsExtensions: true,
    module: "esnext",
    moduleResolution: "bundler",
    target: "esnext",
    lib: "esnext,dom,dom.iterable",
    strict: true,
    rootDir: ROOT,
    outDir: folder,
  };
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-config", "--no-lock", "--quiet", TYPESCRIPT, ...args, join(ROOT, "mod.ts")],
    stdin: "null",
    env: { NO_COLOR: "1" },
  }).output();
  await Deno.mkdir(folder, { recursive: true });
  let count = 0;
  for await (const path of declarations(folder)) {
    const text = await Deno.readTextFile(path);
    // Deno finds only full names.
    await Deno.writeTextFile(path, text.replace(/((?:from|import)\s*\(?\s*"\.[^"]*)\.ts"/g, '$1.d.ts"'));
    count++;
  }
  if (count > 0) return;
  const said = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)).join(" ").trim();
  throw new TilereelError(`${TYPESCRIPT} made no declarations (${said.slice(0, 300)}); use --untyped without them`);
}

async function* declarations(folder: string): AsyncIterable<string> {
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    const path = join(folder, name);
    if (isDirectory) yield* declarations(path);
    else if (name.endsWith(".d.ts")) yield path;
  }
}
