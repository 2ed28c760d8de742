/**
 * Where the demo model that comes with tilereel lies.
 *
 * @module
 */
import { join } from "node:path";

/**
 * Folder of the embedded model, in the diffusers layout. It is `demo` beside this module in a checkout and in what
 * `deno compile` makes; tools/compile.ts puts it beside the bundled program too.
 */
export function embeddedModelDir(): string {
  const here = import.meta.dirname;
  if (here === undefined) throw new Error("the embedded model cannot be found from a program loaded over the network");
  return join(here, "demo");
}
