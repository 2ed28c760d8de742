import { join } from "node:path";
import { program } from "../../process.ts";

/** A running `tilereel serve`. */
export interface Server extends AsyncDisposable {
  /** Such as `http://localhost:41234`. */
  readonly url: string;
  readonly process: Deno.ChildProcess;
  /** What it printed on the standard error until now. */
  readonly errors: () => string;
}

/** Starts a server on a free port, for small clips of the demo model. */
export async function startServer(dir: string, args: readonly string[] = []): Promise<Server> {
  const all = ["serve", "--out", join(dir, "served"), "--port", "0", "--size", "64x64", "--frames", "9", ...args];
  const process = new Deno.Command(Deno.execPath(), {
    args: program("cli/main.ts", all),
    ...{ stdin: "null", stdout: "piped", stderr: "piped", env: { NO_COLOR: "1" } },
  }).spawn();
  let errors = "", out = "";
  const told = process.stderr.pipeThrough(new TextDecoderStream()).pipeTo(
    new WritableStream({ write: (text) => void (errors += text) }),
  );
  const address = Promise.withResolvers<string>();
  const said = process.stdout.pipeThrough(new TextDecoderStream()).pipeTo(
    new WritableStream({
      write(text) {
        out += text;
        const [, url] = /For programs: (http:\/\/\S+?)\/v1\/videos\n/.exec(out) ?? [];
        if (url) address.resolve(url);
      },
    }),
  ).then(() => address.reject(new Error(`the server ended: ${errors}`)));
  address.promise.catch(() => {});
  const stop = async () => {
    try {
      process.kill("SIGTERM");
    } catch {
      // It has ended.
    }
    await Promise.all([process.status, told, said]);
  };
  try {
    return { url: await address.promise, process, errors: () => errors, [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
