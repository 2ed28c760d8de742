import { extname, join } from "node:path";

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json",
};

/**
 * Serves the files of a folder on this machine alone, whole or by ranges.
 *
 * @param port 0 takes one that is free
 */
export function serveFolder(folder: string, port = 0): Deno.HttpServer<Deno.NetAddr> {
  return Deno.serve({ hostname: "127.0.0.1", port, onListen: () => {} }, async (request) => {
    const path = decodeURIComponent(new URL(request.url).pathname);
    if (request.method !== "GET" || path.includes("..") || path.includes("\\")) {
      return new Response(null, { status: 404 });
    }
    const name = join(folder, path.endsWith("/") ? `${path}index.html` : path);
    const file = await Deno.open(name).catch(() => undefined), stat = await file?.stat();
    if (!file || !stat?.isFile) {
      file?.close();
      return new Response("not found", { status: 404 });
    }
    const headers = { "content-type": TYPES[extname(name)] ?? "application/octet-stream", "accept-ranges": "bytes" };
    const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.get("range") ?? "") ?? [];
    if (from === undefined) return new Response(file.readable, { headers });
    const start = Number(from), end = Math.min(stat.size, to ? Number(to) + 1 : stat.size);
    await file.seek(start, Deno.SeekMode.Start);
    let left = end - start;
    const range = new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        const part = chunk.subarray(0, left);
        left -= part.length;
        controller.enqueue(part);
        if (left === 0) controller.terminate();
      },
    });
    return new Response(file.readable.pipeThrough(range), {
      status: 206,
      headers: {
        ...headers,
        "content-range": `bytes ${start}-${end - 1}/${stat.size}`,
        "content-length": `${end - start}`,
      },
    });
  });
}
