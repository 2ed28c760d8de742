import { join } from "node:path";
import type { Ending } from "./classify.ts";
import type { Order } from "./worker.ts";

/** What a case may take. */
const MOST_CPU_SECONDS = 5, MOST_BYTES = 2 ** 30;
/** A case that waits so long for something else hangs as well. */
const MOST_IDLE_SECONDS = 30;
const LOOK_EVERY_MS = 50;
/** Linux counts processors' time in these parts of a second. */
const TICKS = 100, PAGE_BYTES = 4096;

/** How one case ended. */
export interface CaseResult {
  readonly number: number;
  readonly ending: Ending;
  /** The message, or why it is a bug. */
  readonly says?: string;
  /** Whether its process is gone. */
  readonly endedWorker?: true;
}

/** Cases in a worker process that is watched: one that takes too long or too much is ended, and a new one goes on. */
export class WatchedCases implements AsyncDisposable {
  #worker: Worker | undefined;

  /** @param folder for the worker's files */
  private constructor(private readonly folder: string) {}

  static async open(): Promise<WatchedCases> {
    return new WatchedCases(await Deno.makeTempDir({ prefix: "tilereel-fuzz-" }));
  }

  /** Runs cases, in order. */
  async *run(order: Order): AsyncGenerator<CaseResult> {
    for (let from = order.from; from < order.to;) {
      const first = from, isFresh = this.#worker === undefined;
      this.#worker ??= new Worker(this.folder);
      for await (const result of this.#worker.cases({ ...order, from })) {
        if (result.endedWorker) this.#worker = undefined;
        // What cases before it left behind may be to blame: it is tried again in a fresh process.
        if (result.endedWorker && !(isFresh && result.number === first)) break;
        from = result.number + 1;
        yield result;
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker?.end();
    await Deno.remove(this.folder, { recursive: true });
  }
}

class Worker {
  readonly #process: Deno.ChildProcess;
  readonly #lines: AsyncGenerator<string>;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;

  constructor(folder: string) {
    const config = join(import.meta.dirname!, "../../deno.json"), program = join(import.meta.dirname!, "worker.ts");
    // Without a path: what other programs, such as ffmpeg, make of a file is not looked at.
    this.#process = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", "--quiet", "--config", config, program, folder],
      ...{ stdin: "piped", stdout: "piped", stderr: "null", env: { NO_COLOR: "1", PATH: "" } },
    }).spawn();
    this.#lines = linesOf(this.#process.stdout);
    this.#input = this.#process.stdin.getWriter();
  }

  /** The results up to the first case that has to be ended; the worker is then gone. */
  async *cases(order: Order): AsyncGenerator<CaseResult> {
    await this.#input.write(new TextEncoder().encode(`${JSON.stringify(order)}\n`));
    let running: number | undefined, cpu = 0, since = 0, ended: Ending | undefined;
    const look = setInterval(() => {
      if (running === undefined) return;
      const now = usage(this.#process.pid);
      if (!now) return;
      const isHung = now.cpu - cpu > MOST_CPU_SECONDS || performance.now() - since > MOST_IDLE_SECONDS * 1000;
      ended ??= now.bytes > MOST_BYTES ? "memory" : isHung ? "hang" : undefined;
      if (ended) this.#process.kill("SIGKILL");
    }, LOOK_EVERY_MS);
    try {
      for (;;) {
        const { value, done } = await this.#lines.next();
        if (done) {
          const { code } = await this.#process.status;
          const number = running ?? order.from;
          const says = `the process ended by itself with status ${code}`;
          yield { number, endedWorker: true, ...ended ? { ending: ended } : { ending: "bug", says } };
          return;
        }
        const line = JSON.parse(value);
        if (line.done) return;
        if (line.begin !== undefined) {
          running = line.begin;
          cpu = usage(this.#process.pid)?.cpu ?? 0;
          since = performance.now();
        } else {
          const { end: number, ...result } = line;
          running = undefined;
          yield { number, ...result };
        }
      }
    } finally {
      clearInterval(look);
    }
  }

  async end(): Promise<void> {
    await this.#input.close().catch(() => {});
    await this.#lines.return(undefined);
    await this.#process.status;
  }
}

/** Seconds of processors' time that a process took, and the memory that it has; undefined if it is gone. */
function usage(pid: number): { readonly cpu: number; readonly bytes: number } | undefined {
  try {
    const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\)/s, "").trim().split(" ").map(Number);
    return { cpu: (fields[11]! + fields[12]!) / TICKS, bytes: fields[21]! * PAGE_BYTES };
  } catch {
    return undefined;
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}
