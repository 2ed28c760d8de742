/** A server that makes many clips keeps what it holds. `TILEREEL_JOBS=200` makes more than the usual run does. */
import { assert, assertEquals } from "@std/assert";
import { inTempDir } from "../../process.ts";
import { startServer } from "./server.ts";

/** Clips until all is loaded and compiled, and all that is kept is kept. */
const WARM_UP = 4;
const USUAL = 8;
const JOBS = Number(Deno.env.get("TILEREEL_JOBS") ?? USUAL);

/** What a clip may add for ever: its entry in the list of jobs, and what garbage there may be at either time. */
const MOST_BYTES_A_JOB = 0.25e6, SLACK = 96e6;

/** What a process holds: resident memory, and open files. */
interface Held {
  readonly bytes: number;
  readonly files: number;
}

Deno.test({
  name: `a server that makes ${JOBS} clips keeps its memory, its GPU buffers and its open files`,
  ignore: Deno.build.os !== "linux",
  fn: () =>
    inTempDir(async (dir) => {
      await using server = await startServer(dir);
      const shown = JOBS > USUAL, samples: (Held & { gpu: unknown })[] = [];
      for (let i = 0; i < WARM_UP + JOBS; i++) {
        // VORTA's routes and previews are kept and sent, too.
        await make(server.url, { attention: i % 2 === 0 ? "full" : "vorta", seed: i });
        if (i < WARM_UP) continue;
        const { gpu_memory: gpu } = await (await fetch(`${server.url}/health`)).json();
        samples.push({ ...held(server.process.pid), gpu });
        if (shown && i % 20 === 0) console.log(i - WARM_UP, JSON.stringify(samples.at(-1)));
      }
      const [first, last] = [samples[0]!, samples.at(-1)!];
      if (shown) console.log(JOBS, JSON.stringify(last));
      assertEquals(last.gpu, first.gpu);
      // A reply that is being closed may still be open.
      assert(last.files <= first.files + 2, `${first.files} open files became ${last.files}`);
      const most = SLACK + JOBS * MOST_BYTES_A_JOB;
      assert(last.bytes - first.bytes < most, `${first.bytes} bytes became ${last.bytes}`);
      assertEquals(server.errors(), "");
    }),
});

async function make(url: string, values: Readonly<Record<string, unknown>>): Promise<void> {
  const body = JSON.stringify({ prompt: "a red circle", size: "32x32", frames: 5, steps: 2, ...values });
  const headers = { "content-type": "application/json" };
  const { id } = await (await fetch(`${url}/v1/videos`, { method: "POST", headers, body })).json();
  const events = await (await fetch(`${url}/v1/videos/${id}/events`)).text();
  assert(events.includes('"status":"completed"'), events);
}

function held(pid: number): Held {
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  return {
    bytes: Number(/VmRSS:\s+(\d+) kB/.exec(status)![1]) * 1024,
    files: [...Deno.readDirSync(`/proc/${pid}/fd`)].length,
  };
}
