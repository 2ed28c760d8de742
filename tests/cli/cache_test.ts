/** Step caches as users meet them. */
import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { readRecord } from "../../model/video/record.ts";
import { assertRefused, inTempDir, tilereel } from "../process.ts";
import { clipMaker } from "./made_clip.ts";

/** A clip of 2×4×4 tokens. */
const CLIP = ["generate", "a red circle", "--size", "64x64", "--frames", "5", "--steps", "6", "--seed", "3"];

const make = clipMaker([...CLIP, "--json"]);

Deno.test("generate: each cache changes the clip, and is in its record", () =>
  inTempDir(async (dir) => {
    const none = await make(dir, "none"), off = await make(dir, "off", "--cache", "none");
    assertEquals([off.pixels, off.density], [none.pixels, 1]);
    const kinds = {
      "first-block": ["--cache-threshold", "0.9"],
      tea: ["--tea-coefficients", "0.01", "--cache-threshold", "0.025"],
      easy: ["--cache-first", "3", "--cache-threshold", "9"],
      pab: ["--pab-between", "0-1000"],
    };
    for (const [kind, args] of Object.entries(kinds)) {
      const made = await make(dir, kind, "--cache", kind, ...args);
      assertNotEquals(made.pixels, none.pixels, kind);
      assert(made.density < 1, `${kind}: ${made.density}`);
      assertEquals(made.cache, kind);
    }
    const both = await make(dir, "both", "--cache", "pab", "--pab-between", "0-1000", "--attention", "coreset");
    assert(both.density < 0.25, `${both.density}`);
  }));

Deno.test("generate: a cache says what it skipped, and --like repeats the clip with it", () =>
  inTempDir(async (dir) => {
    const out = (name: string) => ["--out", join(dir, name)];
    const first = await tilereel([
      ...CLIP,
      "--cache",
      "easy",
      "--cache-first",
      "3",
      "--cache-threshold",
      "9",
      ...out("a.gif"),
    ]);
    assertStringIncludes(first.out, "cache: easy, skipped 33.3 % of the passes and 33.3 % of the blocks");
    assertEquals((await tilereel(["generate", "--like", join(dir, "a.gif"), ...out("b.gif")])).code, 0);
    assertEquals(await Deno.readFile(join(dir, "b.gif")), await Deno.readFile(join(dir, "a.gif")));
    const other = ["--cache", "pab", "--pab-between", "5-10"];
    const third = await tilereel(["generate", "--like", join(dir, "a.gif"), ...other, ...out("c.gif")]);
    assertStringIncludes(third.out, "cache: pab, skipped nothing");
    const { cache, pabSelf, pabBetween, cacheFirst } = (await readRecord(join(dir, "c.gif")))!;
    assertEquals([cache, pabSelf, pabBetween, cacheFirst], ["pab", 2, "5-10", undefined]);
  }));

Deno.test("generate: cache options that cannot be are refused in one sentence", () =>
  inTempDir(async (dir) => {
    const refuses = async (args: readonly string[], message: string) =>
      assertRefused(await tilereel([...CLIP, "--out", join(dir, "x.png"), ...args]), message);
    await refuses(["--pab-self", "3"], "--pab-self has no effect with --cache none: leave it out, or use --cache pab");
    await refuses(["--cache", "pab", "--cache-threshold", "1"], "use --cache first-block or tea or easy");
    await refuses(["--cache", "tea"], "TeaCache needs coefficients for this model of 8 layers with 8 heads");
    await refuses(["--attention", "veda", "--dense-layers", "77"], "layer 77 cannot be dense: this model has 8 layers");
    await refuses(["--cache", "pab", "--pab-between", "800-100"], "--pab-between must be two timesteps as in 100-800");
    await refuses(["--cache", "teacache"], "--cache must be none, first-block, tea, easy or pab");
  }));
