import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { assertRefused, inTempDir, listFiles, QUICK, ROOT, start, tilereel } from "../../process.ts";

/** Edges and frames of a GIF. */
async function shapeOf(path: string): Promise<number[]> {
  const bytes = await Deno.readFile(path), view = new DataView(bytes.buffer);
  const frames = new TextDecoder("latin1").decode(bytes).split("\x21\xf9\x04").length - 1;
  return [view.getUint16(6, true), view.getUint16(8, true), frames];
}

const CLIP = ["a red circle", "--seed", "1", ...QUICK, "--steps", "4"];

Deno.test("--preview shows the clip beside it, until it is done; a FILE is kept", () =>
  inTempDir(async (dir) => {
    const run = async (...args: string[]) => {
      const { code, err } = await tilereel(["generate", ...args], { cwd: dir });
      assertEquals(code, 0, err);
      return err;
    };
    const beside = await run("--preview", ...CLIP, "--out", "a.gif");
    assertStringIncludes(beside, "Note: the clip is shown while it forms in a.preview.gif.");
    assertEquals(listFiles(dir), ["a.gif"]);
    await run(
      ...CLIP,
      "--out",
      "b.gif",
      "--preview",
      "seen.gif",
      "--preview-vae",
      join(ROOT, "tests/fixtures/tiny_taehv/a.safetensors"),
    );
    assertEquals(listFiles(dir), ["a.gif", "b.gif", "seen.gif"]);
    assertEquals(await Deno.readFile(join(dir, "b.gif")), await Deno.readFile(join(dir, "a.gif")));
    // The clip's 32 pixels, ten times as large.
    assertEquals(await shapeOf(join(dir, "seen.gif")), [320, 320, 3]);
  }));

Deno.test("a preview is there while the clip forms, and stays if that is broken off", () =>
  inTempDir(async (dir) => {
    const args = ["generate", "--preview", "a red circle", "--size", "64x64", "--steps", "1000", "--out", "x.mp4"];
    const { process, until, output } = start(dir, "cli/main.ts", args);
    await until(() => listFiles(dir).includes("x.preview.gif"));
    process.kill("SIGINT");
    await output;
    assertEquals(listFiles(dir), ["x.preview.gif"]);
    const [width, height, frames] = await shapeOf(join(dir, "x.preview.gif"));
    assertEquals([width, height], [320, 320]);
    assert(frames! > 1);
  }));

Deno.test("--preview is refused where it cannot be written or nothing is previewed", () =>
  inTempDir(async (dir) => {
    const refuse = async (message: string, ...args: string[]) =>
      assertRefused(await tilereel(["generate", ...CLIP, "--quiet", "--out", "a.gif", ...args], { cwd: dir }), message);
    await refuse("--preview a.gif is the clip itself; name a file of its own", "--preview", "a.gif");
    await refuse(
      "--preview clip.avi is no file for a preview; name a file of its own that ends in .gif, .png or .mp4",
      "--preview=clip.avi",
    );
    await refuse("--preview-vae decodes previews, but none are asked for", "--preview-vae", "x.safetensors");
    assertEquals(listFiles(dir), []);
  }));
