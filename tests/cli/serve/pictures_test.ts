import { assert, assertEquals } from "@std/assert";
import { encode } from "fast-png";
import OpenAI from "openai";
import { join } from "node:path";
import { readRecord } from "../../../model/video/record.ts";
import { writeImageModel } from "../../image_model.ts";
import { inTempDir, listFiles } from "../../process.ts";
import { Api, type Fields } from "./api.ts";
import { startServer } from "./server.ts";

function picture(shade: number, width = 40, height = 40): File {
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * shade) % 251);
  return new File([encode({ width, height, channels: 3, data }) as Uint8Array<ArrayBuffer>], "fox.png");
}

function form(values: Readonly<Record<string, string | Blob>>): RequestInit {
  const body = new FormData();
  for (const [key, value] of Object.entries({ prompt: "a cat", seed: "3", ...values })) body.append(key, value);
  return { method: "POST", body };
}

Deno.test("clips are made of pictures, which are kept with their jobs and outlive the server", () =>
  inTempDir(async (dir) => {
    const model = join(dir, "model"), first = picture(1, 40, 20), last = picture(7);
    await writeImageModel(model);
    let made: Fields, waiting: Fields;
    {
      await using server = await startServer(dir, ["--model", model]);
      const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none" }), api = await Api.open(server.url);
      const request = { prompt: "a cat", seed: 3, input_reference: first } as unknown as OpenAI.VideoCreateParams;
      const { id } = await client.videos.create(request);
      made = (await api.watch(id)).at(-1)!;
      assertEquals([made.status, made.size], ["completed", "80x32"], JSON.stringify(made));
      const { pictures, values } = made.tilereel as { pictures: Fields; values: Fields };
      assertEquals([pictures, values], [
        { image: `/v1/videos/${id}/pictures/image` },
        { frames: 9, seed: 3, size: { width: 80, height: 32 } },
      ]);
      const sent = await fetch(`${server.url}${pictures.image}`);
      assertEquals(sent.headers.get("content-type"), "image/png");
      assertEquals(new Uint8Array(await sent.arrayBuffer()), new Uint8Array(await first.arrayBuffer()));
      const record = await readRecord(join(dir, "served", `${id}.mp4`));
      assertEquals(record?.image, `${id}.image.png`);
      await api.ask("Video", "/v1/videos", form({ input_reference: first, steps: "1000" }));
      waiting =
        (await api.ask("Video", "/v1/videos", form({ input_reference: first, last_image: last, size: "32x32" }))).body;
      const { tilereel } = (await api.ask("Video", `/v1/videos/${waiting.id}`)).body;
      assertEquals(Object.keys((tilereel as { pictures: Fields }).pictures), ["image", "last-image"]);
      server.process.kill("SIGKILL");
    }
    // The folder may be moved meanwhile, and a request may have been cut off.
    await Deno.rename(join(dir, "served"), join(dir, "moved"));
    await Deno.mkdir(join(dir, "other"));
    await Deno.rename(join(dir, "moved"), join(dir, "other/served"));
    await Deno.writeTextFile(join(dir, "other/served", `video_${"0".repeat(32)}.image.png`), "");
    await using server = await startServer(join(dir, "other"), ["--model", model]);
    const api = await Api.open(server.url);
    assert(!listFiles(join(dir, "other/served")).some((name) => name.startsWith("video_00000000")));
    const [running] = (await (await fetch(`${server.url}/v1/videos?order=asc&after=${made.id}`)).json()).data;
    await api.ask("Video", `/v1/videos/${running.id}/cancel`, { method: "POST" });
    const other = (await api.watch(waiting.id)).at(-1)!;
    assertEquals(other.status, "completed", JSON.stringify(other));
    for (const id of [made.id, running.id, waiting.id]) {
      await api.ask("DeletedVideo", `/v1/videos/${id}`, { method: "DELETE" });
    }
    assertEquals(listFiles(join(dir, "other/served")), [".tilereel-serve.lock"]);
    assertEquals(server.errors(), "");
  }));

Deno.test("pictures that cannot be used are refused with a sentence before they are decoded, and nothing is kept", () =>
  inTempDir(async (dir) => {
    const model = join(dir, "model");
    await writeImageModel(model);
    await using server = await startServer(dir, ["--model", model]);
    const api = await Api.open(server.url), first = picture(1), png = new Uint8Array(await first.arrayBuffer());
    // 40,000 × 40,000 pixels, as the header of a small file says.
    const huge = png.slice(), view = new DataView(huge.buffer);
    view.setUint32(16, 40_000);
    view.setUint32(20, 40_000);
    const cases: readonly (readonly [Readonly<Record<string, string | Blob>>, string | null, string])[] = [
      [{}, "image", "needs a picture to begin with: send it as the file input_reference of a form"],
      [{ last_image: first }, "image", "needs a picture to begin with"],
      [{ input_reference: "/etc/passwd" }, "input_reference", '"input_reference" must be a file'],
      [{ input_reference: new Blob(["<svg>"]) }, "input_reference", "is no PNG, JPEG, WebP or GIF"],
      [{ input_reference: first, image: first }, "image", 'give either "image" or "input_reference"'],
      [{ input_reference: new Blob([png.subarray(0, 60)]) }, "input_reference", 'the picture "input_reference"'],
      [{ input_reference: new Blob([huge]) }, "input_reference", 'the picture "input_reference" '],
      [{ input_reference: first, last_image: new Blob([huge]) }, "last_image", 'the picture "last_image" '],
    ];
    for (const [values, param, message] of cases) {
      const { status, body } = await api.ask("Video", "/v1/videos", form(values)), error = body.error as Fields;
      assertEquals([status, error.param], [400, param], JSON.stringify(body));
      assert(String(error.message).includes(message) && !String(error.message).includes(dir), `${error.message}`);
    }
    const long = await api.ask("Video", "/v1/videos", form({ prompt: "a".repeat(140e6) }));
    assertEquals(long.status, 413);
    const headers = { "content-type": "application/json" }, post = { method: "POST", headers };
    const json = {
      ...post,
      body: JSON.stringify({ prompt: "a cat", input_reference: { image_url: "https://a.b/c" } }),
    };
    assertEquals((await api.ask("Video", "/v1/videos", json)).status, 400);
    // What a clip of a picture costs is told without it.
    const asked = await api.ask("Estimate", "/v1/estimates", { ...post, body: JSON.stringify({ prompt: "a cat" }) });
    assertEquals(asked.status, 200, JSON.stringify(asked.body));
    assertEquals(listFiles(join(dir, "served")), [".tilereel-serve.lock"]);
    assertEquals(server.errors(), "");
  }));
