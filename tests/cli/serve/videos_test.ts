import { assert, assertEquals } from "@std/assert";
import OpenAI, { APIError } from "openai";
import { join } from "node:path";
import { readBody } from "../../../cli/serve/read_request.ts";
import { RequestError } from "../../../cli/serve/request_error.ts";
import { readRecord } from "../../../model/video/record.ts";
import { inTempDir, listFiles } from "../../process.ts";
import { Api, type Fields } from "./api.ts";
import { startServer } from "./server.ts";

/** What a request says of a clip that takes a second or two. */
const QUICK = { steps: 2, size: "32x32", frames: 5, seed: 7 };

Deno.test("OpenAI's client makes, watches, lists, downloads and deletes videos", () =>
  inTempDir(async (dir) => {
    await using server = await startServer(dir);
    const api = await Api.open(server.url), client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none" });
    const request = { prompt: "a red circle", model: "embedded", ...QUICK } as unknown as OpenAI.VideoCreateParams;
    let made = await client.videos.create(request);
    while (made.status === "queued" || made.status === "in_progress") {
      await new Promise((resolve) => setTimeout(resolve, 100));
      made = await client.videos.retrieve(made.id);
    }
    assertEquals([made.status, made.progress, made.size as string], ["completed", 100, "32x32"], JSON.stringify(made));
    const content = await (await client.videos.downloadContent(made.id)).arrayBuffer(), path = join(dir, "a.mp4");
    await Deno.writeFile(path, new Uint8Array(content));
    const record = await readRecord(path);
    assertEquals([record?.prompt, record?.seed, record?.steps], ["a red circle", 7, 2]);
    const other = await api.create({ prompt: "a blue ring", ...QUICK, frames: undefined, seconds: "0.3" });
    assertEquals([other.body.seconds, other.body.status === "failed"], ["0.31", false]);
    const told = await api.watch(other.body.id);
    assertEquals(told.at(-1)!.status, "completed");
    const progress = told.map(({ progress }) => progress as number);
    assert(told.length > 4 && progress.every((value, i) => i === 0 || value >= progress[i - 1]! - 1), `${progress}`);
    const page = await client.videos.list({ limit: 1 });
    assertEquals(page.data.map(({ id }) => id), [other.body.id as string]);
    assertEquals((await page.getNextPage()).data.map(({ id }) => id), [made.id]);
    assertEquals((await client.videos.retrieve(made.id)).id, made.id);
    assertEquals((await client.videos.delete(made.id)).deleted, true);
    const gone = await client.videos.retrieve(made.id).catch((error: unknown) => error);
    assert(gone instanceof APIError && gone.status === 404);
    assertEquals(listFiles(join(dir, "served")).filter((name) => name.includes(made.id)), []);
    await api.ask("ModelList", "/v1/models");
    await api.ask("Health", "/health");
    await api.ask("VideoList", "/v1/videos?order=asc");
    assertEquals(server.errors(), "");
  }));

Deno.test("a mistake is answered with one sentence, and its key", () =>
  inTempDir(async (dir) => {
    await using server = await startServer(dir);
    const api = await Api.open(server.url);
    const cases: readonly (readonly [Fields, string | null, string])[] = [
      [{}, "prompt", "there is no prompt"],
      [{ prompt: " " }, "prompt", "the prompt is empty"],
      [{ prompt: "a", stps: 2 }, "stps", 'unknown key "stps": did you mean "steps"?'],
      [{ prompt: "a", size: "large" }, "size", "must be a width and a height"],
      [{ prompt: "a", steps: -1 }, "steps", "must be a whole number from 1 to 1000"],
      [{ prompt: "a", size: "128x128" }, "size", "this server makes clips up to 64x64"],
      [{ prompt: "a", attention: "full", tau: 0.5 }, "tau", '"tau" has no effect with "attention" full'],
      [{ prompt: "a", seconds: 1, frames: 5 }, "seconds", 'either "seconds" or "frames"'],
      [{ prompt: "a", seconds: "soon" }, "seconds", '"seconds" must be a number'],
      [{ prompt: "a", model: "sora-2" }, "model", 'has the model "embedded"'],
      [{ prompt: "a", router: "/etc/passwd" }, "router", 'unknown key "router"'],
    ];
    for (const [request, param, message] of cases) {
      const { status, body } = await api.create(request), error = body.error as Fields;
      assertEquals([status, error.param], [param === "model" ? 404 : 400, param], JSON.stringify(body));
      assert(String(error.message).includes(message), `${error.message}`);
    }
    assertEquals((await (await fetch(`${server.url}/v1/videos`)).json()).data, []);
  }));

Deno.test("a hostile request is refused, and the server goes on", () =>
  inTempDir(async (dir) => {
    await using server = await startServer(dir);
    const api = await Api.open(server.url), { port } = new URL(server.url);
    const post = (body: BodyInit, type: string, more: HeadersInit = {}) =>
      api.ask("Video", "/v1/videos", { method: "POST", headers: { "content-type": type, ...more }, body });
    const json = "application/json";
    assertEquals((await post("{", json)).status, 400);
    assertEquals((await post("[]", json)).status, 400);
    assertEquals((await post("[".repeat(100_000), json)).status, 400);
    assertEquals((await post("a=1", "text/plain")).status, 415);
    assertEquals((await post("--x\r\n", "multipart/form-data; boundary=x")).status, 400);
    assertEquals((await post(`{"prompt":"${"a".repeat(2 << 20)}"}`, json)).status, 413);
    assertEquals(
      (await post(`prompt=a&negative=${"a".repeat(2 << 20)}`, "application/x-www-form-urlencoded")).status,
      413,
    );
    assertEquals((await post("\xff\xfe", json)).status, 400);
    assertEquals((await post('{"prompt":"a","__proto__":{"steps":1}}', json)).status, 400);
    assertEquals((await post('{"prompt":"a"}', json, { origin: "null" })).status, 403);
    assertEquals((await post('{"prompt":"a"}', json, { origin: "https://evil.example" })).status, 403);
    for (const path of ["/../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/video_1%00/content", "/%ff/content"]) {
      assertEquals((await api.ask("Video", `/v1/videos${path}`)).status, 404, path);
    }
    // A page of another site whose name leads to this machine (DNS rebinding). fetch would not send this Host.
    using connection = await Deno.connect({ port: Number(port) });
    await connection.write(new TextEncoder().encode("GET /v1/videos HTTP/1.1\r\nHost: evil.example\r\n\r\n"));
    const start = new Uint8Array(64), count = await connection.read(start);
    assert(new TextDecoder().decode(start.subarray(0, count ?? 0)).startsWith("HTTP/1.1 403"));
    assertEquals((await api.ask("Health", "/health")).status, 200);
    assertEquals(server.errors(), "");
  }));

Deno.test("a request whose bytes stop to come is given up", async () => {
  let isCancelled = false;
  const body = new ReadableStream({
    start: (controller) => controller.enqueue(new TextEncoder().encode('{"prompt":')),
    cancel: () => void (isCancelled = true),
  });
  const request = new Request("http://localhost/", {
    method: "POST",
    body,
    headers: { "content-type": "application/json" },
  });
  const error = await readBody(request, { patience: 20 }).catch((error) => error);
  assert(error instanceof RequestError && error.message.startsWith("nothing of the request came"), `${error}`);
  assertEquals([error.status, isCancelled], [408, true]);
});

Deno.test("a job is cancelled, waiting or running, and a killed server goes on with the others", () =>
  inTempDir(async (dir) => {
    const long = { prompt: "a red circle", ...QUICK, steps: 500 };
    let first: unknown, third: unknown;
    {
      await using server = await startServer(dir);
      const api = await Api.open(server.url);
      const ids = [];
      for (let i = 0; i < 3; i++) ids.push((await api.create({ ...long, seed: i })).body.id);
      [first, third] = [ids[0], ids[2]];
      const waiting = await api.ask("Video", `/v1/videos/${ids[1]}/cancel`, { method: "POST" });
      assertEquals(waiting.body.error, { code: "cancelled", message: "the job was cancelled before it began" });
      assertEquals((await api.ask("Video", `/v1/videos/${ids[1]}/content`)).status, 409);
      server.process.kill("SIGKILL");
    }
    await using server = await startServer(dir);
    const api = await Api.open(server.url);
    const again = (await api.ask("Video", `/v1/videos/${first}`)).body;
    assertEquals(again.status === "in_progress" || again.status === "queued", true);
    const refused = await startServer(dir).then(() => "started", (error) => String(error));
    assert(refused.includes("another server uses the folder"), refused);
    await api.ask("Video", `/v1/videos/${first}/cancel`, { method: "POST" });
    assertEquals((await api.watch(first)).at(-1)!.error, { code: "cancelled", message: "the job was cancelled" });
    assertEquals((await api.ask("DeletedVideo", `/v1/videos/${third}`, { method: "DELETE" })).status, 200);
    const last = await api.create({ prompt: "a blue ring", ...QUICK });
    assertEquals((await api.watch(last.body.id)).at(-1)!.status, "completed");
    const clips = listFiles(join(dir, "served")).filter((name) => name.endsWith(".mp4"));
    assertEquals(clips, [`${last.body.id}.mp4`]);
  }));

Deno.test("other machines need a token", () =>
  inTempDir(async (dir) => {
    const refused = await startServer(dir, ["--host", "0.0.0.0"]).then(() => "started", (error) => String(error));
    assert(refused.includes("--token SECRET is needed"), refused);
    const token = "a-secret-that-nobody-guesses";
    await using server = await startServer(dir, ["--token", token]);
    assertEquals((await fetch(`${server.url}/v1/videos`)).status, 401);
    assertEquals((await fetch(`${server.url}/v1/videos?token=wrong`)).status, 401);
    const headers = { authorization: `Bearer ${token}` };
    assertEquals((await (await fetch(`${server.url}/v1/videos`, { headers })).json()).data, []);
  }));
