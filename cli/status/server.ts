import type { JobStatus } from "../serve/job.ts";
import { lookAtJobs } from "../serve/job_store.ts";
import type { Failure } from "../shards/shard_log.ts";

/** The jobs of a server's folder. */
export interface ServerReport {
  /** Whether a server uses the folder now. */
  readonly running: boolean;
  /** Jobs by what became of them. */
  readonly jobs: Readonly<Record<JobStatus, number>>;
  readonly failed: readonly Failure[];
}

/**
 * What became of the jobs in the folder of a `tilereel serve`; undefined if it is none.
 *
 * @throws {TilereelError} if it cannot be read
 */
export async function readServer(folder: string): Promise<ServerReport | undefined> {
  const { jobs, isServed } = await lookAtJobs(folder) ?? {};
  if (!jobs) return undefined;
  const count = (status: JobStatus) => jobs.filter((job) => job.status === status).length;
  return {
    running: isServed!,
    jobs: {
      queued: count("queued"),
      in_progress: count("in_progress"),
      completed: count("completed"),
      failed: count("failed"),
    },
    failed: jobs.flatMap(({ id, error }) => error ? [{ name: id, why: error.message }] : []),
  };
}
