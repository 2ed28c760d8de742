import { assert } from "@std/assert";
import { start } from "../../process.ts";

/** A running `tilereel assist`. */
export interface Assistant extends AsyncDisposable {
  /** Such as `localhost:41234`. */
  readonly address: string;
  readonly process: Deno.ChildProcess;
  /** Waits until it has printed this, and gives all that it has printed. */
  said(text: string): Promise<string>;
}

/** Starts an assistant on a free port, for small clips. */
export async function startAssistant(
  dir: string,
  args: readonly string[] = [],
  env: Record<string, string> = {},
): Promise<Assistant> {
  const all = ["assist", "--listen", "localhost:0", "--size", "64x64", "--frames", "9", ...args];
  const { process, output, until } = start(dir, "cli/main.ts", all, env);
  let address: string | undefined, printed = "";
  await until((err, out) => {
    printed = out;
    address = /--split-guidance (\S+:\d+)\./.exec(out)?.[1];
    assert(!err.includes("bug"), err);
    return address !== undefined;
  });
  return {
    ...{ address: address!, process },
    said: async (text) => {
      await until((_, out) => (printed = out).includes(text));
      return printed;
    },
    async [Symbol.asyncDispose]() {
      try {
        process.kill("SIGKILL");
      } catch {
        // It has ended.
      }
      await output;
    },
  };
}
