import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { saveVeda } from "../../../model/veda/save_veda.ts";
import { uniformShapes } from "../../../model/veda/tile_shapes.ts";
import { loadVeda } from "../../../model/veda/veda_file.ts";
import { assertRefused, inTempDir, listFiles, start, tilereel } from "../../process.ts";

/** Clips of 2×2×4 tokens. */
const CLIPS = ["--prompts", "p.txt", "--size", "64x32", "--frames", "5", "--sampling-steps", "2", "--tile-tokens", "2"];

Deno.test("mistyped trainings and searches of tiles: one sentence, exit 1, and nothing written", () =>
  inTempDir(async (dir) => {
    await Deno.writeTextFile(join(dir, "p.txt"), "a red circle\n");
    await Deno.writeTextFile(join(dir, "two.jsonl"), '{"prompt": "a"}\n{"prompt": "b", "frames": 5}\n');
    const refused = async (args: string[], message: string) =>
      assertRefused(await tilereel(args, { cwd: dir }), message);
    await refused(["train", "tiles"], "--prompts FILE is missing: the model samples clips from these prompts");
    await refused(["train", "tiles", ...CLIPS, "--target", "mean"], '--target must be max or sum, not "mean"');
    await refused(["train", "tiles", ...CLIPS, "--keep", "0"], "--keep must be a number above 0 and at most 1");
    await refused(["train", "tiles", ...CLIPS, "--ema", "0.9"], "did you mean --average?");
    await refused(
      ["train", "tiles", ...CLIPS, "--resume"],
      "checkpoint.safetensors does not exist, so there is no training",
    );
    await refused(["train", "tiles", ...CLIPS, "--plan", "p.txt"], "p.txt");
    const other = {
      tileTokens: 2,
      grid: [1, 2, 2] as const,
      shapes: uniformShapes([1, 1, 2], { layers: 2, heads: 2 }),
    };
    await saveVeda(join(dir, "other"), other);
    for (const command of ["train", "search"]) {
      await refused(
        [command, "tiles", ...CLIPS, "--add-to", "other"],
        "--add-to other: its shapes of tiles are for 2 layers",
      );
    }
    await Deno.remove(join(dir, "other"));
    await refused(
      ["search", "tile"],
      '"tile" is not a command of "tilereel search": did you mean "tilereel search tiles"?',
    );
    await refused(["train", "tiles", "--prompts", "two.jsonl", "--add-to", "x"], "--add-to needs clips of one size");
    await refused(["search", "tiles", "--prompts", "two.jsonl"], "shapes can only be compared on clips of one size");
    await refused(
      ["search", "tiles", ...CLIPS, "--tile-tokens", "64"],
      "no tile of 64 tokens fits a grid of 2x2x4 tokens with at most 20 % of padding",
    );
    await refused(["search", "tiles", ...CLIPS, "--out", "p.txt/x"], "p.txt/x");
    assertEquals(listFiles(dir), ["p.txt", "two.jsonl"]);
  }));

Deno.test("a plan is searched for, scores are trained for it, and clips are made with both", () =>
  inTempDir(async (dir) => {
    await Deno.writeTextFile(join(dir, "p.txt"), "a red circle\n");
    const ran = async (...args: string[]) => {
      const { code, out, err } = await tilereel(args, { cwd: dir });
      assertEquals(code, 0, err);
      return out;
    };
    const said = await ran(
      "search",
      "tiles",
      ...CLIPS,
      "--looks",
      "1",
      "--guidance",
      "1",
      "--keep",
      "0.4",
      "--budgets",
      "--out",
      "plan",
    );
    assertStringIncludes(
      said,
      "With a budget for each head, the error of attention with the tiles of the most mass is ",
    );
    assertEquals((await loadVeda(join(dir, "plan"))).madeFor, "Wan 2.1");
    assertStringIncludes(said, "Trying 3 shapes: 1x1x2, 1x2x1, 2x1x1.");
    assertStringIncludes(said, "plan: at keep 0.4 the error of attention is ");
    assertStringIncludes(said, "\nVerdict: ");
    const next = "train tiles --prompts p.txt --size 64x32 --frames 5 --guidance 1 --sampling-steps 2 --plan plan";
    assertStringIncludes(said, `\n  tilereel ${next}\n`);
    const { shapes: plan, tileTokens, keep, scorer, grid } = await loadVeda(join(dir, "plan"));
    assertEquals([grid, plan!.budgets!.length, plan!.budgets![0]!.length], [[2, 2, 4], 8, 8]);
    assertEquals([tileTokens, keep, scorer, plan!.choices.length, plan!.choices[0]!.length], [2, 0.4, undefined, 8, 8]);
    const larger = ["--prompts", "p.txt", "--size", "64x64", "--frames", "5", "--sampling-steps", "1", "--looks", "1"];
    await ran(
      "search",
      "tiles",
      ...larger,
      "--guidance",
      "1",
      "--tile-tokens",
      "2",
      "--add-to",
      "plan",
      "--out",
      "both",
    );
    const both = await loadVeda(join(dir, "both"));
    assertEquals([both.grid, both.others!.map(({ grid, shapes }) => [grid, shapes])], [[2, 4, 4], [[[2, 2, 4], plan]]]);
    const train = ["train", "tiles", ...CLIPS.slice(0, -2), "--plan", "plan", "--out", "t"];
    const trained = await ran(...train, "--steps", "2");
    const [, generate] = trained.split("\n").filter((line) => line.startsWith("  tilereel "));
    assertEquals(
      generate,
      "  tilereel generate 'a red circle' --size 64x32 --frames 5 --steps 2 --tiles t/tiles.safetensors",
    );
    assertStringIncludes(trained, "t/tiles.safetensors: 2 steps");
    assertStringIncludes(trained, "\nVerdict: too early to tell. ");
    const file = await loadVeda(join(dir, "t/tiles.safetensors"));
    assertEquals([file.shapes, file.tileTokens, file.scorer!.layers.length], [plan, 2, 8]);
    const clip = ["generate", "a red circle", "--size", "64x32", "--frames", "5", "--steps", "2", "--json"];
    const made = await ran(
      ...clip,
      "--attention",
      "veda",
      "--tiles",
      "t/tiles.safetensors",
      "--keep",
      "0.5",
      "-o",
      "a.png",
    );
    assert(JSON.parse(made).density < 1);
    assertRefused(
      await tilereel([...train, "--tile-tokens", "4", "--resume"], { cwd: dir }),
      "--tile-tokens is 4, but the tiles of plan have 2: leave it out",
    );
  }));

Deno.test({
  name: "Ctrl-C saves a training of tiles and leaves no plan half written",
  ignore: Deno.build.os === "windows",
  fn: () =>
    inTempDir(async (dir) => {
      await Deno.writeTextFile(join(dir, "p.txt"), "a red circle\na blue square\n");
      const interrupted = async (args: string[], when: (err: string, out: string) => boolean | Promise<boolean>) => {
        const { process, output, until } = start(dir, "cli/main.ts", args);
        await until(when);
        process.kill("SIGINT");
        return await output;
      };
      const train = ["train", "tiles", ...CLIPS, "--out", "t"];
      const steps = async () =>
        (await Deno.readTextFile(join(dir, "t/metrics.jsonl")).catch(() => "")).split("\n").length - 1;
      const stopped = await interrupted([...train, "--steps", "1000"], async () => await steps() >= 3);
      assertEquals(stopped.code, 130, stopped.err);
      assertStringIncludes(stopped.err, "Stopping after this step; Ctrl-C again stops at once");
      const done = await steps();
      assertStringIncludes(
        stopped.out,
        `Stopped after ${done} of 1000 steps, which are saved in t/checkpoint.safetensors. Continue with`,
      );
      assertStringIncludes(stopped.out, `\n  tilereel ${train.join(" ")} --steps 1000 --resume\n`);
      const total = String(done + 1);
      const more = await tilereel([...train, "--steps", total, "--resume", "-q"], { cwd: dir });
      assertEquals(more, { code: 0, out: "", err: "" });
      const whole = await tilereel([...train.slice(0, -1), "u", "--steps", total, "--json"], { cwd: dir });
      assertEquals([whole.code, whole.err], [0, ""]);
      const { tiles, recall, kept, verdict, next } = JSON.parse(whole.out);
      assertEquals([tiles, verdict.grade, next.length], ["u/tiles.safetensors", "unknown", 2]);
      assert(0 <= recall.last && recall.last <= 1 && 0 < kept.last && kept.last <= 1, whole.out);
      const [t, u] = [
        await Deno.readFile(join(dir, "t/tiles.safetensors")),
        await Deno.readFile(join(dir, "u/tiles.safetensors")),
      ];
      assertEquals(t, u);

      const search = await interrupted(
        ["search", "tiles", ...CLIPS, "--looks", "2", "--out", "plan"],
        (_, out) => out.includes("Trying 3 shapes"),
      );
      assertEquals(search.code, 130, search.err);
      assertStringIncludes(search.out, "nothing was written. Start again with:\n  tilereel search tiles");
      assertEquals(listFiles(dir).filter((name) => name.includes("plan")), []);
    }),
});
