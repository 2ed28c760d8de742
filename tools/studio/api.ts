/// <reference lib="dom" />
import type { videoObject } from "../../cli/serve/video_object.ts";

/** A video as the server describes it. */
export type VideoJob = ReturnType<typeof videoObject>;

/** Some of the videos, the newest first. */
export interface VideoPage {
  readonly data: readonly VideoJob[];
  readonly has_more: boolean;
}

/** A property of the description of a request. */
export interface FieldSchema {
  readonly description?: string;
  readonly enum?: readonly (string | null)[];
  readonly default?: number;
  /** The method that it is an option of, such as attention. */
  readonly "x-method"?: string;
  readonly anyOf?: readonly {
    readonly type?: string;
    readonly minimum?: number;
    readonly maximum?: number;
    readonly exclusiveMinimum?: number;
  }[];
}

/** The secret of the server, where it needs one: from the page's own address, `?token=…`. */
const TOKEN = new URL(location.href).searchParams.get("token");

/** The address of something on the server. */
export function address(path: string): string {
  return TOKEN === null ? path : `${path}${path.includes("?") ? "&" : "?"}token=${encodeURIComponent(TOKEN)}`;
}

/** The address of a clip's file. */
export function contentOf(id: string): string {
  return address(`/v1/videos/${id}/content`);
}

/**
 * Asks the server.
 *
 * @throws an error with the server's sentence
 */
export async function ask<T>(path: string, init: RequestInit = {}): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(address(path), init);
  } catch {
    throw new Error("the server does not answer: start it again, and reload this page");
  }
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error.message);
  return body;
}

/** Asks for a clip, of pictures where there are some. */
export async function create(
  values: Readonly<Record<string, unknown>>,
  pictures: Readonly<Record<string, File>> = {},
): Promise<VideoJob> {
  if (Object.keys(pictures).length === 0) {
    const headers = { "content-type": "application/json" };
    return await ask("/v1/videos", { method: "POST", headers, body: JSON.stringify(values) });
  }
  const body = new FormData();
  for (const [key, value] of Object.entries(values)) body.append(key, String(value));
  for (const [key, file] of Object.entries(pictures)) body.append(key, file);
  return await ask("/v1/videos", { method: "POST", body });
}

/** Told of jobs. */
export interface JobWatcher {
  /** A job at every change; those that have not ended at the beginning. */
  readonly onJob: (job: VideoJob) => void;
  readonly onDeleted: (id: string) => void;
  /** The jobs that have not ended, at the beginning and when the page is seen, or the server answers, again. */
  readonly onWaiting: (ids: readonly string[]) => void;
  /** Whether the server answers: told when that changes. */
  readonly onAnswers: (answers: boolean) => void;
}

/**
 * Watches all jobs. One connection does, because browsers allow few to a server: it is given up while nobody sees the
 * page.
 */
export function watchJobs({ onJob, onDeleted, onWaiting, onAnswers }: JobWatcher): void {
  let events: EventSource | undefined;
  const follow = () => {
    events?.close();
    if (document.hidden) return;
    // A browser asks again by itself when the server was started anew.
    events = new EventSource(address("/v1/events"));
    events.addEventListener("open", () => onAnswers(true));
    events.addEventListener("error", () => onAnswers(false));
    events.addEventListener("waiting", ({ data }) => onWaiting(JSON.parse(data).ids));
    events.addEventListener("video", ({ data }) => onJob(JSON.parse(data)));
    events.addEventListener("deleted", ({ data }) => onDeleted(JSON.parse(data).id));
  };
  document.addEventListener("visibilitychange", follow);
  follow();
}
