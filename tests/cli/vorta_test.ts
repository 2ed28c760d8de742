import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { loadRouter } from "../../model/vorta/router_file.ts";
import { assertRefused, inTempDir, MODEL, QUICK, tilereel } from "../process.ts";
import { clipMaker } from "./made_clip.ts";

/** A clip of 2×4×4 tokens. */
const CLIP = ["generate", "a red circle", "--size", "64x64", "--frames", "5", "--steps", "2", "--seed", "3", "--json"];

const make = clipMaker(CLIP);

Deno.test("generate: each kind of attention, its density, and the demo model's own router", () =>
  inTempDir(async (dir) => {
    const full = await make(dir, "full");
    assertEquals([full.attention, full.density], ["full", 1]);
    const sliding = await make(dir, "sliding", "--attention", "sliding", "--tile", "1x2x2", "--window", "1x1x1");
    // Eight tiles of four tokens see themselves alone.
    assertEquals([sliding.attention, sliding.density], ["sliding", 0.125]);
    const coreset = await make(dir, "coreset", "--attention", "coreset", "--bucket", "2x2x2");
    assertEquals([coreset.attention, coreset.density], ["coreset", 0.25]);
    const vorta = await make(dir, "vorta", "--attention", "vorta");
    assertEquals(vorta.attention, "vorta");
    assert(vorta.density > 0.25 && vorta.density < 1, `density ${vorta.density}`);
    const named = await make(dir, "named", "--router", join(MODEL, "router.safetensors"));
    assertEquals([named.attention, named.density, named.pixels], [vorta.attention, vorta.density, vorta.pixels]);
    // No score reaches 1, so every head is full.
    const all = await make(dir, "all", "--attention", "vorta", "--tau", "1");
    assertEquals([all.density, all.pixels], [1, full.pixels]);
    // The first of two steps is full, the second as routed.
    const first = await make(dir, "first", "--attention", "vorta", "--dense-steps", "1");
    assert(first.density > 0.5 && first.density < 1, `density ${first.density}`);
    for (const sparse of [sliding, coreset, vorta, first]) assertNotEquals(sparse.pixels, full.pixels);
  }));

Deno.test("generate: attention that leaves nothing out says why", () =>
  inTempDir(async (dir) => {
    const kinds = [
      ["sliding", [], "a window of 3x3x3 tiles of 1x1x1 covers this clip's 2x2x2 tokens"],
      ["vorta", ["--tau", "1"], "the router has no score of at least 1 for any other branch"],
      ["vorta", ["--dense-steps", "9"], "the first 9 steps are dense, and the clip has only 1"],
    ] as const;
    for (const [kind, args, why] of kinds) {
      const out = ["--out", join(dir, `${kind}.png`)];
      const made = await tilereel(["generate", "a red circle", ...QUICK, "--attention", kind, ...args, ...out]);
      assertStringIncludes(made.out, `attention: ${kind}, 100.0 % of the pairs of full attention: ${why}`);
      // The model's router was trained with the sizes of each grid, which need no note.
      assertEquals(made.err.includes("no config.json"), false, made.err);
    }
  }));

Deno.test("generate: attention options that cannot be are refused in one sentence", () =>
  inTempDir(async (dir) => {
    const refuses = async (args: readonly string[], message: string) =>
      assertRefused(await tilereel(["generate", "x", "--out", join(dir, "x.png"), ...args]), message);
    await refuses(["--attention", "sliding", "--tau", "0.4"], "--tau has no effect with --attention sliding");
    await refuses(["--tile", "2x2x2"], "--tile has no effect with --attention full");
    await refuses(["--attention", "sliding", "--tile", "2x2"], "--tile must be frames, rows and columns as in 5x9x8");
    await refuses(["--attention", "coreset", "--rate", "1"], "keeps nothing of a bucket");
    await refuses(["--router", join(dir, "none.pt")], "none.pt");
    await Deno.writeTextFile(join(dir, "text.safetensors"), "no router");
    await refuses(["--router", join(dir, "text.safetensors")], "text.safetensors");
    await refuses(["--router", join(MODEL, "vae/diffusion_pytorch_model.safetensors")], "router");
  }));

Deno.test("the demo model has a router for 128x128 and 256x256, and one with small tiles for 512x512", async () => {
  const { router, settings, sizes } = await loadRouter(join(MODEL, "router.safetensors"));
  assertEquals([router.layers.length, router.heads, router.dim], [8, 8, 256]);
  assertEquals(settings, undefined);
  assertEquals(sizes!.map(({ grid, settings }) => [grid.join("x"), settings?.tile.join("x")]), [
    ...[["8x8x8", undefined], ["8x16x16", undefined]],
    ["16x32x32", "4x4x4"],
  ]);
});

Deno.test("generate --help tells of attention", async () => {
  const { out } = await tilereel(["generate", "--help"]);
  for (const option of ["--attention", "--router", "--tau", "--tile", "--bucket"]) assertStringIncludes(out, option);
});
