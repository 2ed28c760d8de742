import { assertEquals } from "@std/assert";
import { join } from "node:path";
import { execute } from "../process.ts";

/** Whether processes can be ended at their calls here: it takes Linux and a C compiler. */
export const CAN_KILL = Deno.build.os === "linux" &&
  await execute("cc", ["--version"]).then(({ code }) => code === 0, () => false);

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
   * @param at the number of the call to end at, from 1; 0 for none
   * @returns the number of calls, and how it ended
   */
  async run(args: readonly string[], under: string, at = 0): Promise<{ calls: number; code: number; err: string }> {
    await Deno.writeFile(this.count, new Uint8Array(4));
    const env = {
      LD_PRELOAD: this.library,
      KILL_UNDER: under,
      KILL_COUNT: this.count,
      KILL_AT: `${at}`,
      NO_COLOR: "1",
    };
    const { code, err } = await execute(Deno.execPath(), args, { cwd: under, env });
    const [calls] = new Uint32Array((await Deno.readFile(this.count)).buffer);
    return { calls: calls!, code, err };
  }
}
