import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { join } from "node:path";
import { attentionKind, type AttentionValues } from "../../tools/program/clip/attention_options.ts";
import { parseSetting } from "../../tools/program/clip/setting.ts";
import { vedaOptions } from "../../tools/program/clip/veda_options.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import { randn } from "../../model/noise.ts";
import { saveVeda } from "../../model/veda/save_veda.ts";
import { assertRefused, inTempDir, MODEL, tilereel } from "../process.ts";
import { clipMaker } from "./made_clip.ts";

/** A clip of 2×4×4 tokens. */
const CLIP = [
  "generate",
  "a red circle",
  "--size",
  "64x64",
  "--frames",
  "5",
  "--steps",
  "2",
  "--guidance",
  "1",
  "--seed",
  "3",
  "--json",
];

const make = clipMaker(CLIP);

/** A scorer for the demo model, with a plan: tiles of 4 tokens. */
async function tilesFile(dir: string): Promise<string> {
  const path = join(dir, "tiles.safetensors");
  const projection = (seed: number) => ({
    dtype: "F32" as const,
    data: new Uint8Array(randn(8 * 96 * 32, seed).buffer),
  });
  await saveVeda(path, {
    tileTokens: 4,
    scorer: {
      heads: 8,
      headDim: 32,
      layers: Array.from({ length: 8 }, (_, i) => ({ q: projection(2 * i), k: projection(2 * i + 1) })),
    },
    shapes: {
      shapes: [[1, 2, 2], [1, 1, 4]],
      choices: Array.from({ length: 8 }, (_, layer) => Uint8Array.from({ length: 8 }, (_, head) => (layer + head) % 2)),
    },
  });
  return path;
}

Deno.test("generate: Veda by a shape, by a file, and for the heads that VORTA leaves full", () =>
  inTempDir(async (dir) => {
    const full = await make(dir, "full", "--attention", "full");
    const means = ["--attention", "veda", "--tile-shape", "1x2x2"];
    // Eight tiles of four tokens, two each; the first of two steps is dense.
    const quarter = await make(dir, "quarter", ...means, "--keep", "0.25");
    assertEquals([quarter.attention, quarter.density], ["veda", 0.625]);
    assertNotEquals(quarter.pixels, full.pixels);
    const sparse = await make(dir, "sparse", ...means, "--keep", "0.25", "--dense-steps", "0");
    assertEquals(sparse.density, 0.25);
    const more = await make(dir, "rest", ...means, "--keep", "0.25", "--dense-steps", "0", "--rest", "estimate");
    assertEquals([more.density, more.rest], [0.25, "estimate"]);
    assertNotEquals(more.pixels, sparse.pixels);
    const layers = await make(dir, "layers", ...means, "--keep", "0.25", "--dense-steps", "0", "--dense-layers", "0-3");
    assertEquals(layers.density, 0.625);
    const dense = await make(dir, "dense", ...means, "--dense-layers", "0-7");
    assertEquals([dense.density, dense.pixels], [1, full.pixels]);
    const tiles = await tilesFile(dir);
    const trained = await make(dir, "trained", "--tiles", tiles, "--keep", "0.25", "--dense-steps", "0");
    assertEquals([trained.attention, trained.density], ["veda", 0.25]);
    assertNotEquals(trained.pixels, sparse.pixels);
    const routed = await make(dir, "routed", "--attention", "vorta");
    const both = await make(
      dir,
      "both",
      ...["--attention", "vorta", "--full-branch", "veda", "--tiles", tiles, "--keep", "0.25", "--dense-steps", "0"],
    );
    assertEquals(both.attention, "vorta");
    assert(both.density < routed.density, `${both.density} of ${routed.density}`);
    assertNotEquals(both.pixels, routed.pixels);
  }));

Deno.test("generate: options of Veda that cannot be are refused in one sentence", () =>
  inTempDir(async (dir) => {
    const refuses = async (args: readonly string[], message: string) =>
      assertRefused(await tilereel(["generate", "x", "--quiet", "--out", join(dir, "x.png"), ...args]), message);
    await refuses(["--attention", "vorta", "--keep", "0.1"], "(or --full-branch veda)");
    await refuses(["--attention", "veda", "--keep", "0"], "--keep must be a number above 0 and at most 1");
    await refuses(["--attention", "veda", "--rest", "all"], "--rest must be none or estimate");
    await refuses(["--tiles", join(MODEL, "router.safetensors")], "holds no tiles");
    const tiles = await tilesFile(dir);
    await refuses(["--tiles", tiles, "--tile-shape", "2x2x2"], "a tile of 2x2x2 has 8 tokens, but 4 were expected");
    await refuses(
      ["--attention", "veda", "--dense-layers", "7-8", "--size", "32x32"],
      "layer 8 cannot be dense",
    );
  }));

Deno.test("dense layers are numbers and rising ranges", () => {
  const parse = (text: string) => vedaOptions["dense-layers"].parse(text, "--dense-layers");
  assertEquals(parse("0,1,38-39"), [0, 1, 38, 39]);
  assertEquals(parse(" 3 , 5 - 6"), [3, 5, 6]);
  for (const text of ["", "1,", "3-1", "-1", "a", "1.5", "1--2"]) {
    assertThrows(() => parse(text), TilereelError, "as in 0,1,38-39");
  }
});

Deno.test("what is for a kind of attention asks for it", () => {
  const kind = (values: AttentionValues) => attentionKind(values);
  assertEquals(kind({}), "full");
  assertEquals(kind({ tiles: "t" }), "veda");
  assertEquals(kind({ tiles: "t", router: "r" }), "vorta");
  assertEquals(kind({ "full-branch": "veda" }), "vorta");
  assertEquals(kind({ attention: "full", tiles: "t" }), "full");
});

Deno.test("compare: settings take Veda's options", () => {
  const { values } = parseSetting("veda keep=0.2 dense-layers=0-1 rest=estimate tile-shape=2x4x4", "--setting");
  assertEquals(values, {
    attention: "veda",
    keep: 0.2,
    "dense-layers": [0, 1],
    rest: "estimate",
    "tile-shape": [2, 4, 4],
  });
});
