import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { exists } from "../../../model/files/file_error.ts";
import { hasEnded, type Job, newId } from "../../../cli/serve/job.ts";
import { JobStore } from "../../../cli/serve/job_store.ts";
import { Queue } from "../../../cli/serve/queue.ts";
import { inTempDir } from "../../process.ts";

const SIZE = { width: 32, height: 32, frames: 5 };

Deno.test("a job goes on after a lost GPU; a second loss or a crash of the worker fails one job, and the next are made", () =>
  inTempDir(async (dir) => {
    const bugs: string[] = [];
    using store = await JobStore.open(dir);
    const worker = new URL("failing_worker.ts", import.meta.url);
    using queue = new Queue(store, { open: {}, largest: SIZE }, (bug) => void bugs.push(bug), worker);
    const ended = async (prompt: string): Promise<Job> => {
      const id = newId(), { promise, resolve } = Promise.withResolvers<Job>(), gone = new AbortController();
      const clip = { prompt, seed: 1, out: store.clipPath(id), taken: "replace" } as const;
      const values = { size: { width: 32, height: 32 }, frames: 5, steps: 2 };
      queue.listen((of, job) => of === id && job && hasEnded(job) && resolve(job), gone.signal);
      await queue.add({ id, created: 1, clip: { ...clip, values }, ...SIZE, fps: 16, status: "queued" });
      return await promise.finally(() => gone.abort());
    };
    const jobs = await Promise.all(["crash", "a red circle", "lose twice", "a blue ring", "lose"].map(ended));
    assertEquals(jobs.map(({ status }) => status), ["failed", "completed", "failed", "completed", "completed"]);
    assertEquals(jobs[0]!.error, {
      code: "failed",
      message: "the worker that made this clip crashed (Error: the driver is gone): ask for it again, and please " +
        "report it if it crashes again",
    });
    assert(jobs[2]!.error!.message.includes("the GPU was lost"), jobs[2]!.error!.message);
    const notes = jobs[4]!.notes?.filter((note) => note.includes("the GPU was lost while working, so it was opened"));
    assertEquals(notes?.length, 1);
    // Waits until all is written.
    for (const { id } of jobs) await queue.remove(id);
    assert(bugs.length === 1 && bugs[0]!.includes("the driver is gone"), bugs.join("\n"));
  }));

Deno.test("a job of a server that ended goes on after the step that was kept, and the clip is the same", () =>
  inTempDir(async (dir) => {
    const worker = new URL("failing_worker.ts", import.meta.url), bugs: string[] = [];
    const onBug = (bug: string) => void bugs.push(bug), opening = { open: {}, largest: SIZE };
    const ids = [newId(), newId()] as const;
    {
      using store = await JobStore.open(dir);
      using queue = new Queue(store, opening, onBug, worker);
      for (const [created, id] of ids.entries()) {
        const clip = { prompt: "a red circle", seed: 1, out: store.clipPath(id), taken: "replace" } as const;
        const values = { size: { width: 32, height: 32 }, frames: 5, steps: 60 };
        await queue.add({ id, created, clip: { ...clip, values }, ...SIZE, fps: 16, status: "queued" });
      }
      while (!await exists(join(dir, `.${ids[0]}.mp4.unfinished`))) await new Promise((go) => setTimeout(go, 10));
    }
    using store = await JobStore.open(dir);
    using queue = new Queue(store, opening, onBug, worker);
    const { promise, resolve } = Promise.withResolvers<void>(), gone = new AbortController();
    queue.listen((of, job) => of === ids[1] && job && hasEnded(job) && resolve(), gone.signal);
    await promise;
    gone.abort();
    const [first, second] = ids.map((id) => store.get(id)!) as [Job, Job];
    assertEquals([first.status, second.status, bugs], ["completed", "completed", []]);
    assert(first.notes!.some((note) => /was broken off and goes on after step \d+ of 60/.test(note)), `${first.notes}`);
    assert(!second.notes?.some((note) => note.includes("broken off")), `${second.notes}`);
    const [a, b] = await Promise.all(ids.map((id) => Deno.readFile(store.clipPath(id))));
    assertEquals(a, b);
    // Waits until all is written.
    for (const id of ids) await queue.remove(id);
    // The first worker may have been ended while it wrote; a server would remove that when it starts.
    const left = [...Deno.readDirSync(dir)].map(({ name }) => name).filter((name) => !name.endsWith(".part"));
    assertEquals(left, [".tilereel-serve.lock"]);
  }));

Deno.test("a clip that was begun three times and never ended is not begun again", () =>
  inTempDir(async (dir) => {
    const clip = { prompt: "a red circle", seed: 1, out: "", taken: "replace", values: {} } as const;
    const job: Job = { id: newId(), created: 1, clip, ...SIZE, fps: 16, status: "in_progress", begun: 2 };
    const reopened = async (left: Job) => {
      {
        using store = await JobStore.open(dir);
        await store.put(left);
      }
      using store = await JobStore.open(dir);
      const { status, error } = store.get(job.id)!;
      return [status, error?.message];
    };
    assertEquals(await reopened(job), ["queued", undefined]);
    assertEquals(await reopened({ ...job, begun: 3 }), [
      "failed",
      "the server ended 3 times while it made this clip: ask for it again, with smaller settings if it ends the server",
    ]);
  }));
