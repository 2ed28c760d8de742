/** A hub that answers as Hugging Face does, on the loopback interface. @module */
import { createHash } from "node:crypto";

/** The model that it has. */
export const ID = "Owner/Small-Diffusers";

/** A hub with one model. */
export class SmallHub implements AsyncDisposable {
  readonly files: Record<string, Uint8Array<ArrayBuffer>> = {
    "model_index.json": new TextEncoder().encode('{"_class_name": "WanPipeline"}'),
    "README.md": new TextEncoder().encode("a model"),
    "assets/picture.json": new TextEncoder().encode("{}"),
    "transformer/config.json": new TextEncoder().encode("{}"),
    "transformer/diffusion_pytorch_model.safetensors": crypto.getRandomValues(new Uint8Array(60_000)),
    "vae/diffusion_pytorch_model.safetensors": new Uint8Array(3_000_000).map((_, i) => i * 7 + (i >> 8)),
  };
  /** What was asked for: a path and the first byte. */
  readonly reads: [path: string, from: number][] = [];
  readonly tokens = new Set<string | null>();
  /** Changes answers with bytes. */
  answer = (_path: string, bytes: Uint8Array<ArrayBuffer>): BodyInit => bytes;
  /** More files in the list. */
  listed: { path: string; size: number }[] = [];
  readonly #server: Deno.HttpServer<Deno.NetAddr>;

  constructor() {
    this.#server = Deno.serve(
      { port: 0, hostname: "127.0.0.1", onListen: () => {} },
      (request) => this.#serve(request),
    );
  }

  get address(): string {
    return `http://127.0.0.1:${this.#server.addr.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }

  #serve(request: Request): Response {
    const { pathname } = new URL(request.url);
    this.tokens.add(request.headers.get("authorization"));
    if (pathname === `/api/models/${ID}/tree/main`) return Response.json([...this.#list(), ...this.listed]);
    if (pathname.startsWith("/api/models/Owner/Secret")) return Response.json({ error: "gated" }, { status: 401 });
    if (pathname.startsWith("/api/")) return Response.json({ error: "Repository not found" }, { status: 404 });
    const path = decodeURIComponent(pathname.slice(`/${ID}/resolve/main/`.length)), whole = this.files[path];
    if (!whole) return new Response("", { status: 404, headers: { "x-error-code": "EntryNotFound" } });
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.get("range") ?? "");
    const from = Number(range?.[1] ?? 0), to = Number(range?.[2] ?? whole.length - 1);
    if (!(range && from === 0 && to === 0)) this.reads.push([path, from]);
    return new Response(this.answer(path, whole.slice(from, to + 1)), {
      status: range ? 206 : 200,
      headers: { etag: '"x"', ...range && { "content-range": `bytes ${from}-${to}/${whole.length}` } },
    });
  }

  #list() {
    return Object.entries(this.files).map(([path, bytes]) => ({
      ...{ type: "file", path, size: bytes.length },
      ...path.endsWith(".safetensors")
        ? { oid: "0".repeat(40), lfs: { oid: createHash("sha256").update(bytes).digest("hex"), size: bytes.length } }
        : { oid: createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex") },
    }));
  }
}
