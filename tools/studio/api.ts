/// <reference lib="dom" />
import { hasEnded } from "../../cli/serve/job.ts";
import type { videoObject } from "../../cli/serve/video_object.ts";

/** A video as the server describes it. */
export type VideoJob = ReturnType<typeof videoObject>;

/** A property of the description of a request. */
export interface FieldSchema {
  readonly description?: string;
  readonly enum?: readonly (string | null)[];
  readonly default?: number;
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

/** Asks for a clip. */
export async function create(values: Readonly<Record<string, unknown>>): Promise<VideoJob> {
  const headers = { "content-type": "application/json" };
  return await ask("/v1/videos", { method: "POST", headers, body: JSON.stringify(values) });
}

/** Calls `onChange` at every change of a job, until it has ended or is deleted: then it has `undefined`. */
export function watch(id: string, onChange: (job: VideoJob | undefined) => void): void {
  const events = new EventSource(address(`/v1/videos/${id}/events`));
  events.addEventListener("video", ({ data }) => {
    const job = JSON.parse(data) as VideoJob;
    if (hasEnded(job)) events.close();
    onChange(job);
  });
  events.addEventListener("deleted", () => {
    events.close();
    onChange(undefined);
  });
  // A browser asks again by itself when the server was started anew.
}
