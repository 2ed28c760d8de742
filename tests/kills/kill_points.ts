import { assertEquals } from "@std/assert";
import { join } from "node:path";
import { execute } from "../process.ts";

/** Whether processes can be ended at their calls here: it takes Linux and a C compiler. */
export const CAN_KILL = Deno.build.os === "linux" &&
  await execute("cc", ["--version"]).then(({ code }) => code === 0, () => false);

/** How a run ended. */
export interface Ended {
  /** The number of points at which it could be ended: before each call, and in the middle of each write. */
  readonly points: number;
  /** The number of files that were renamed while something written to them was not yet on the disk. */
  readonly unsynced: number;
  readonly code: number;
  readonly err: string;
}

/** A program whose calls that change files under a folder are counted; it can be ended at one of them. */
export class KillPoints {
  private constructor(private readonly library: string, private readonly count: string) {}

  /** @param dir where it is compiled; nothing else belongs there */
  static async build(dir: string): Promise<KillPoints> {
    const library = join(dir, "kill_points.so"), source = join(import.meta.dirname!, "kill_points.c");
    const { code, err } = await execute("cc", ["-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"]);
    assertEquals(code, 0, err);
    return new KillPoints(library, join(dir, "count"));
  }

  /**
   * Runs a command line of this Deno.
   *
   * @param under the folder
   * @param at the number of the point to end at, from 1; 0 for none
   * @param env variables for it
   */
  async run(args: readonly string[], under: string, at = 0, env: Record<string, string> = {}): Promise<Ended> {
    await Deno.writeFile(this.count, new Uint8Array(8));
    const preloaded = {
      ...env,
      LD_PRELOAD: this.library,
      KILL_UNDER: under,
      KILL_COUNT: this.count,
      KILL_AT: `${at}`,
      NO_COLOR: "1",
    };
    const { code, err } = await execute(Deno.execPath(), args, { cwd: under, env: preloaded });
    const [points, unsynced] = new Uint32Array((await Deno.readFile(this.count)).buffer);
    return { points: points!, unsynced: unsynced!, code, err };
  }
}
