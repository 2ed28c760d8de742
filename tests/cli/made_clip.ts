import { assertEquals } from "@std/assert";
import { decode as decodePng } from "fast-png";
import { join } from "node:path";
import { tilereel } from "../process.ts";

/** What a command line says of the clip that it made, and the clip. */
export interface MadeClip {
  readonly attention: string;
  readonly density: number;
  readonly cache?: string;
  readonly rest?: string;
  readonly pixels: Uint8Array;
}

/**
 * Makes clips by the command line, as contact sheets.
 *
 * @param clip the arguments that all have, with `--json`
 */
export function clipMaker(clip: readonly string[]) {
  return async (dir: string, name: string, ...args: string[]): Promise<MadeClip> => {
    const file = join(dir, `${name}.png`);
    const { code, out, err } = await tilereel([...clip, "--out", file, ...args]);
    assertEquals(code, 0, err);
    return { ...JSON.parse(out), pixels: new Uint8Array(decodePng(await Deno.readFile(file)).data) };
  };
}
