import { basename, join } from "node:path";

/**
 * The folder of the demo model that comes with tilereel, in the diffusers layout. In a checkout and in a `deno compile`
 * executable, it is `demo` beside this module; tools/compile.ts also puts it beside the bundled program.
 */
export function embeddedModelDir(): string {
  const here = import.meta.dirname;
  if (here === undefined) throw new Error("the embedded model cannot be found from a program loaded over the network");
  return join(here, "demo");
}

/**
 * The module to start a worker with. In a checkout, it is the source. In the bundled program, in an executable and in the
 * npm package, it is the bundle of this name beside this module: see tools/stage_program.ts.
 *
 * @param source its path in the checkout: "cli/serve/worker.ts"
 */
export function workerUrl(source: string): URL {
  const here = import.meta.url;
  return new URL(here.endsWith(".ts") ? `../${source}` : basename(source).replace(/ts$/, "js"), here);
}
