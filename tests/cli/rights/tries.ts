/// <reference lib="webworker" />
/** A thread that tries what it can do. */

/** What it is told: a path that it should be able to write, one that it should not, and a file that is there. */
interface Places {
  readonly inside: string;
  readonly outside: string;
  readonly file: string;
}

const attempts: Readonly<Record<string, (places: Places) => unknown>> = {
  "write inside": ({ inside }) => Deno.writeTextFileSync(inside, ""),
  "write outside": ({ outside }) => Deno.writeTextFileSync(outside, ""),
  "read": ({ file }) => Deno.readTextFileSync(file),
  "read a secret of the process": () => Deno.readTextFileSync("/proc/self/environ"),
  "connect": () => Deno.connect({ hostname: "127.0.0.1", port: 9 }),
  "listen": () => Deno.listen({ hostname: "localhost", port: 8642 }).close(),
  "listen to all": () => Deno.listen({ port: 0 }).close(),
  "run Deno": () => new Deno.Command(Deno.execPath(), { args: ["--version"] }).outputSync(),
  "run a shell": () => new Deno.Command("sh", { args: ["-c", "true"] }).outputSync(),
  "load a library": () => Deno.dlopen("libc.so.6", {}),
  "read a variable": () => Deno.env.get("PATH"),
  "read all variables": () => Deno.env.toObject(),
  "ask for a name": () => Deno.hostname(),
};

self.onmessage = async ({ data }: MessageEvent<Places>) => {
  const can: string[] = [];
  for (const [name, attempt] of Object.entries(attempts)) {
    try {
      await attempt(data);
      can.push(name);
    } catch (error) {
      // What is refused for another reason, such as a port in use, was allowed.
      if ((error as Error).name !== "NotCapable") can.push(name);
    }
  }
  self.postMessage(can);
};
