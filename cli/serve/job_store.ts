import { basename, join } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";
import { removeUnfinishedIn } from "../../gpu/native/replace_file.ts";
import { parseJson } from "../../model/checkpoint/parse_json.ts";
import { fileError, isNotFound } from "../../model/files/file_error.ts";
import { writeAtomically } from "../../model/files/output.ts";
import type { BatchValues } from "../../tools/program/clip/batch_options.ts";
import type { ImageValues } from "../../tools/program/clip/image_options.ts";
import { hasEnded, ID, type Job } from "./job.ts";
import type { SentPictures } from "./pictures.ts";

/**
 * The jobs of a folder, without opening it as a server does, and whether a server uses it; undefined if none ever did.
 *
 * @throws {TilereelError} if a job cannot be read
 */
export async function lookAtJobs(folder: string): Promise<{ jobs: Job[]; isServed: boolean } | undefined> {
  let isServed: boolean;
  try {
    using lock = await Deno.open(join(folder, LOCK));
    isServed = !await lock.tryLock(false);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw fileError(folder, "read", error);
  }
  return { jobs: await readJobs(folder), isServed };
}

/** The file that a server holds a lock on, so that no second one uses its folder. */
const LOCK = ".tilereel-serve.lock";

/** The end of a picture's name. */
const PICTURE = /\.(last-)?image\.\w+$/;

/** A clip that was begun as many times, and never ended, may be what ends the server. */
const MOST_BEGINNINGS = 3;

/** The jobs of a folder, each in a file beside its clip: they outlive the server. The oldest is first. */
export class JobStore implements Disposable {
  readonly #jobs = new Map<string, Job>();
  /** What was written last for each job: writes of one job keep their order. */
  readonly #writes = new Map<string, Promise<void>>();

  private constructor(readonly folder: string, private readonly lock: Deno.FsFile) {}

  /**
   * Reads the jobs of a folder, which is made if there is none. What was begun goes on.
   *
   * @throws {TilereelError} if another server uses it, or it cannot be used
   */
  static async open(folder: string): Promise<JobStore> {
    await Deno.mkdir(folder, { recursive: true });
    const lock = await Deno.open(join(folder, LOCK), { create: true, write: true });
    if (!await lock.tryLock(true)) {
      lock.close();
      throw new TilereelError(`another server uses the folder ${folder}: end it, or name another folder with --out`);
    }
    removeUnfinishedIn(folder);
    const store = new JobStore(folder, lock), jobs = await readJobs(folder);
    await removeStrayPictures(folder, jobs);
    for (const job of jobs) {
      // The folder may have another name than when they were written.
      const clip = { ...job.clip, values: withPictures(job.clip.values, folder), out: store.clipPath(job.id) };
      store.#jobs.set(job.id, hasEnded(job) ? { ...job, clip } : { ...goneOn(job), clip });
    }
    return store;
  }

  get all(): readonly Job[] {
    return [...this.#jobs.values()];
  }

  /** The number of jobs that have not ended. */
  get waiting(): number {
    return this.all.filter((job) => !hasEnded(job)).length;
  }

  get(id: string): Job | undefined {
    return this.#jobs.get(id);
  }

  /** Where the clip of a job is written. */
  clipPath(id: string): string {
    return join(this.folder, `${id}.mp4`);
  }

  /** Where a job's map of tiles is written. */
  tileMapPath(id: string): string {
    return join(this.folder, `${id}.tiles.safetensors`);
  }

  /** Keeps the pictures of a job that is to come. They are removed with it. */
  async putPictures(id: string, pictures: SentPictures): Promise<ImageValues> {
    const paths = Object.entries(pictures).map(([name, { ending, bytes }]) => ({
      ...{ name, bytes, path: join(this.folder, `${id}.${name}.${ending}`) },
    }));
    for (const { path, bytes } of paths) {
      await writeAtomically(path, (temporary) => Deno.writeFile(temporary, bytes));
    }
    return Object.fromEntries(paths.map(({ name, path }) => [name, path]));
  }

  /** Keeps a job, new or changed. It resolves when the job is on the disk. */
  async put(job: Job): Promise<void> {
    this.#jobs.set(job.id, job);
    await this.#inOrder(job.id, async () => {
      if (this.#jobs.get(job.id) !== job) return;
      const text = JSON.stringify(job, undefined, 1);
      await writeAtomically(this.#path(job.id), (temporary) => Deno.writeTextFile(temporary, text));
    });
  }

  /** Forgets a job and removes its files. */
  async remove(id: string): Promise<void> {
    this.#jobs.delete(id);
    await this.#inOrder(id, async () => {
      // The job's file last: without it, nobody would find the others.
      for await (const { name } of Deno.readDir(this.folder)) {
        const isOwn = name.startsWith(`${id}.`) || name.startsWith(`.${id}.`);
        if (isOwn && name !== `${id}.json`) await removeFile(join(this.folder, name));
      }
      await removeFile(this.#path(id));
    });
    this.#writes.delete(id);
  }

  [Symbol.dispose](): void {
    this.lock.close();
  }

  async #inOrder(id: string, work: () => Promise<void>): Promise<void> {
    const done = (this.#writes.get(id) ?? Promise.resolve()).then(work);
    this.#writes.set(id, done.catch(() => {}));
    await done;
  }

  #path(id: string): string {
    return join(this.folder, `${id}.json`);
  }
}

/** Values with the pictures of a folder. */
function withPictures(values: BatchValues, folder: string): BatchValues {
  const names = ["image", "last-image"] as const;
  const moved = names.flatMap((name) =>
    values[name] === undefined ? [] : [[name, join(folder, basename(values[name]))]]
  );
  return { ...values, ...Object.fromEntries(moved) };
}

/** A job that a server left, as the next one goes on with it. */
function goneOn({ begun = 0, ...job }: Job): Job {
  if (begun < MOST_BEGINNINGS) return { ...job, begun, status: "queued" };
  const message =
    `the server ended ${MOST_BEGINNINGS} times while it made this clip: ask for it again, with smaller settings if it ` +
    `ends the server`;
  return { ...job, begun, status: "failed", error: { code: "failed", message } };
}

/** Removes the pictures of requests that were never answered. */
async function removeStrayPictures(folder: string, jobs: readonly Job[]): Promise<void> {
  const ids = new Set(jobs.map(({ id }) => id));
  for await (const { name } of Deno.readDir(folder)) {
    const id = name.slice(0, name.indexOf("."));
    if (ID.test(id) && PICTURE.test(name) && !ids.has(id)) await removeFile(join(folder, name));
  }
}

async function removeFile(path: string): Promise<void> {
  await Deno.remove(path).catch((error) => {
    if (!isNotFound(error)) throw error;
  });
}

/** The oldest first. */
async function readJobs(folder: string): Promise<Job[]> {
  const found: Job[] = [];
  for await (const { name } of Deno.readDir(folder)) {
    const id = name.replace(/\.json$/, "");
    if (ID.test(id) && name.endsWith(".json")) found.push(await readJob(join(folder, name)));
  }
  return found.sort((a, b) => a.created - b.created || (a.id < b.id ? -1 : 1));
}

async function readJob(path: string): Promise<Job> {
  let job: Partial<Job> | null = null;
  try {
    job = parseJson(await Deno.readTextFile(path)) as Partial<Job> | null;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  const complete = job && typeof job === "object" && typeof job.created === "number" && job.clip && job.status;
  if (!complete) {
    throw new TilereelError(`${path} is not a job of tilereel's server: remove it, or name another folder`);
  }
  return job as Job;
}
