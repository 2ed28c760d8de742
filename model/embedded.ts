import { join } from "node:path";

/**
 * The folder of the demo model that comes with tilereel, in the diffusers layout. In a checkout and in a `deno compile`
 * executable, it is `demo` beside this module; tools/compile.ts also puts it beside the bundled program.
 */
export function embeddedModelDir(): string {
  const here = import.meta.dirname;
  if (here === undefined) throw new Error("the embedded model cannot be found from a program loaded over the network");
  return join(here, "demo");
}
