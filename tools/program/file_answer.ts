/**
 * Answers a request with an open file, or with the range of bytes that its header names. The file is closed when it is
 * sent.
 *
 * @param range the header: "bytes=0-99", or nothing for the whole file
 * @param type the media type of the file
 */
export async function fileAnswer(file: Deno.FsFile, range: string | undefined, type: string): Promise<Response> {
  const { size } = await file.stat(), headers = { "content-type": type, "accept-ranges": "bytes" };
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "") ?? [];
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
