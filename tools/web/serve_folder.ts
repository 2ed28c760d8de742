import { extname, join } from "node:path";
import { fileAnswer } from "../program/file_answer.ts";

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
    const type = TYPES[extname(name)] ?? "application/octet-stream";
    return await fileAnswer(file, request.headers.get("range") ?? undefined, type);
  });
}
