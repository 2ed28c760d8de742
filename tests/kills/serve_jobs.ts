/**
 * A server for the folder that the command line names, and a program that asks it for clips, in one process: the first
 * clip stays; the second one is deleted when it is done. Clips are kept after every step. What an earlier run left goes
 * on.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { main } from "../../cli/program.ts";

const FIRST = "00000000-0000-4000-8000-000000000001", SECOND = "00000000-0000-4000-8000-000000000002";
const CLIP = { prompt: "a circle", attention: "veda", keep: 0.5, steps: 3, guidance: 1 };

/** Jobs have the same identifiers in each run, because files are named by them. Temporary files have others. */
let next: string | undefined;
const { randomUUID } = crypto;
crypto.randomUUID = () => {
  const isOfJob = new Error().stack!.includes("newId");
  return (isOfJob && next || randomUUID.call(crypto)) as ReturnType<typeof randomUUID>;
};

const worker = new URL("../cli/serve/failing_worker.ts", import.meta.url);
globalThis.Worker = class extends Worker {
  constructor(module: string | URL, options?: WorkerOptions) {
    super(`${module}`.endsWith("/cli/serve/worker.ts") ? worker : module, options);
  }
};

const address = new Promise<string>((resolve) => {
  console.log = (line: string) => {
    const [, url] = /For programs: (\S+)/.exec(line) ?? [];
    if (url) resolve(url);
  };
});

async function ask(path: string, init?: RequestInit) {
  const answer = await fetch(`${await address}${path}`, init), text = await answer.text();
  if (!answer.ok) throw new Error(text);
  return JSON.parse(text);
}

/** Asks for a clip, unless an earlier run did, and waits for it. */
async function make(uuid: string, seed: number): Promise<string> {
  const id = `video_${uuid.replaceAll("-", "")}`, { data } = await ask("");
  if (!data.some((job: { id: string }) => job.id === id)) {
    next = uuid;
    const headers = { "content-type": "application/json" };
    await ask("", { method: "POST", headers, body: JSON.stringify({ ...CLIP, seed }) });
  }
  for (;;) {
    const { status, error } = await ask(`/${id}`);
    if (status === "completed") return id;
    assertEquals(error, null);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const server = main(["serve", "--out", Deno.args[0]!, "--port", "0", "--size", "64x64", "--frames", "5"]);
server.then((status) => Deno.exit(status || 1));
await make(FIRST, 1);
const id = await make(SECOND, 2);
await ask(`/${id}`, { method: "DELETE" });
Deno.exit(0);
