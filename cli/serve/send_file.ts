import type { Context } from "hono";
import { isNotFound } from "../../model/files/file_error.ts";
import { RequestError } from "./request_error.ts";

/** Answers with a file, or with the range of it that the request names, as players of video ask for. */
export async function sendFile(context: Context, path: string, type: string): Promise<Response> {
  const file = await Deno.open(path).catch((error) => {
    if (isNotFound(error)) throw new RequestError(404, "the file of this video was removed", "not_found");
    throw error;
  });
  const { size } = await file.stat(), headers = { "content-type": type, "accept-ranges": "bytes" };
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(context.req.header("range") ?? "") ?? [];
  if (from === undefined) {
    return new Response(file.readable, { headers: { ...headers, "content-length": String(size) } });
  }
  const start = Number(from), end = Math.min(size, to ? Number(to) + 1 : size);
  if (start >= end) {
    file.close();
    return new Response(null, { status: 416, headers: { ...headers, "content-range": `bytes */${size}` } });
  }
  await file.seek(start, Deno.SeekMode.Start);
  return new Response(file.readable.pipeThrough(first(end - start)), {
    status: 206,
    headers: {
      ...headers,
      "content-range": `bytes ${start}-${end - 1}/${size}`,
      "content-length": String(end - start),
    },
  });
}

/** Lets the first bytes of a stream through, and ends it. */
function first(bytes: number): TransformStream<Uint8Array, Uint8Array> {
  let left = bytes;
  return new TransformStream({
    transform(chunk, controller) {
      controller.enqueue(chunk.subarray(0, left));
      left -= Math.min(left, chunk.length);
      if (left === 0) controller.terminate();
    },
  });
}
