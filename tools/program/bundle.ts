import { join } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";

/** The checkout. */
export const ROOT = join(import.meta.dirname!, "../..");

/**
 * Bundles modules of the checkout with all that they import.
 *
 * @param platform where the bundle runs: "browser" for a page
 * @param args of `deno bundle`
 * @throws {TilereelError} when they cannot be bundled
 */
export async function bundle(platform: "deno" | "browser", ...args: readonly string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--platform", platform, "--quiet", ...args],
    cwd: ROOT,
    stdin: "null",
  }).output();
  if (!success) throw new TilereelError(`deno bundle failed: ${new TextDecoder().decode(stderr).trim()}`);
}
