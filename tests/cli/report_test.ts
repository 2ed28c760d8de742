import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { decode as decodePng } from "fast-png";
import { join } from "node:path";
import { type ClipRecord, type Comparison, toJson } from "../../cli/compare/comparison.ts";
import { encodePoster } from "../../cli/compare/poster.ts";
import { sideBySide } from "../../cli/compare/side_by_side.ts";
import { cells, printedTable, tableOf } from "../../cli/compare/table.ts";
import { embedClips } from "../../cli/report/embed.ts";
import { html } from "../../cli/report/html.ts";
import { reportPage } from "../../cli/report/page.ts";
import { frameOf } from "../../model/video/frames.ts";
import { movingShapes } from "../moving_shapes.ts";
import { inTempDir } from "../process.ts";

/** One step of each route, then two of the last: [steps][layers], three heads in two layers. */
const ROUTES = [["000", "012"], ["111", "012"], ["222", "012"], ["222", "210"]];

function clip(setting: string, figures: Partial<ClipRecord> = {}): ClipRecord {
  return {
    ...{
      setting,
      file: `${setting}.mp4`,
      poster: `${setting}.png`,
      steps: 4,
      guidance: 4,
      timesteps: [1000, 900.4, 600, 250],
    },
    ...{ seconds: { denoise: 2, total: 3 }, density: 1, meanSquaredError: 0, ssim: 1, flicker: 1 },
    ...figures,
  };
}

function comparison(prompts: readonly string[], settings: readonly ((prompt: number) => ClipRecord)[]): Comparison {
  return {
    ...{ version: "1.2.3", date: "2026-01-02T03:04:05.678Z", commandLine: "tilereel compare 'x'" },
    ...{ model: "model", adapter: "adapter", precision: "f32" },
    settings: settings.map((make) => ({ name: make(0).setting, words: `words of ${make(0).setting}` })),
    prompts: prompts.map((prompt, i) => ({
      ...{ prompt, seed: 7, width: 128, height: 96, frames: 13, fps: 16 },
      ...{ folder: `000${i}`, sideBySide: "all.mp4" },
      clips: settings.map((make) => make(i)),
    })),
  };
}

Deno.test("the table: means over prompts, errors before they become PSNR", () => {
  const { prompts } = comparison(["a", "b"], [
    () => clip("full"),
    (i) =>
      clip("fast", {
        seconds: { denoise: 0.5 + i, total: 2 },
        density: 0.25,
        blocks: 0.5 + i / 5,
        ssim: 0.9 - i / 2,
        churn: i / 4,
      }),
    // PSNR of clips that are equal is infinite, and so would be any mean with it.
    (i) => clip("near", { meanSquaredError: i * 2, flicker: 1 + i, ...i === 0 && { churn: 0.5 } }),
    (i) => clip("far", { meanSquaredError: 100 + 200 * i }),
  ]);
  const rows = tableOf(prompts);
  const [full, fast, near, far] = rows;
  assertEquals(full, {
    ...{ setting: "full", seconds: { denoise: 2, total: 3 }, speedup: 1, density: 1, blocks: 1 },
    ...{ psnr: Infinity, ssim: 1, flicker: 1 },
  });
  assertEquals([fast!.seconds, fast!.speedup, fast!.density], [{ denoise: 1, total: 2 }, 2, 0.25]);
  assertAlmostEquals(fast!.ssim, 0.65);
  assertAlmostEquals(near!.psnr, 20 * Math.log10(255));
  assertAlmostEquals(far!.psnr, 20 * Math.log10(255) - 10 * Math.log10(200));
  assertEquals(cells(full!, true), ["2.0 s", "3.0 s", "1.00×", "100.0 %", "100.0 %", "–", "–", "–", "–"]);
  assertEquals(cells(fast!, false), [
    "1.0 s",
    "2.0 s",
    "2.00×",
    "25.0 %",
    "60.0 %",
    "equal",
    "0.6500",
    "1.000",
    "12.5 %",
  ]);
  // A setting whose clips do not all select tiles has no churn.
  assertEquals([near!.flicker, near!.churn], [1.5, undefined]);
  const lines = printedTable(rows).split("\n");
  assertEquals(lines.length, 5);
  assertEquals(new Set(lines.map((line) => line.length)).size, 1, lines.join("\n"));
});

Deno.test("table.json has null where PSNR is infinite", () => {
  const made = comparison(["a"], [() => clip("full"), () => clip("far", { meanSquaredError: 6.5025 })]);
  const { settings, prompts } = JSON.parse(toJson(made));
  assertEquals(settings.map(({ psnr }: { psnr: number | null }) => psnr), [null, 40]);
  assertEquals(prompts[0].clips.map(({ psnr, file }: { psnr: number; file: string }) => [psnr, file]), [
    [null, "0000/full.mp4"],
    [40, "0000/far.mp4"],
  ]);
});

Deno.test("templates escape all that is put in, but not templates", () => {
  const nasty = `<b a="1" b='2'>&`;
  assertEquals(
    html`<i title="${nasty}">${[html`<u>${1}</u>`, nasty, undefined]}</i>`.text,
    [
      `<i title="&lt;b a=&quot;1&quot; b=&apos;2&apos;&gt;&amp;"><u>1</u>`,
      `&lt;b a=&quot;1&quot; b=&apos;2&apos;&gt;&amp;</i>`,
    ].join(""),
  );
});

Deno.test("the page: everything named, nothing from elsewhere, no text taken for HTML", async () => {
  const nasty = `"><script>alert(1)</script><img src=x onerror=alert(2)>`;
  const made = comparison([nasty, "b"], [() => clip(`full ${nasty}`), () => clip("same")]);
  const media = [{ video: "data:video/mp4;base64,AA", poster: "data:image/png;base64,AA" }];
  const page = await reportPage(made, [{ ...made.prompts[0]!, media: [media[0]!, media[0]!] }]);
  assert(page.startsWith("<!doctype html>"));
  assertEquals(page.match(/<script/g)!.length, 1);
  assertEquals(page.match(/<img/g), null);
  assertEquals(page.match(/https?:|url\(|@import/g), null);
  for (const [, url] of page.matchAll(/\s(?:src|href|poster)="([^"]*)"/g)) assert(url!.startsWith("data:"), url);
  for (const said of ["1.2.3", "2026-01-02 03:04", "model", "adapter, f32", "words of same", "tilereel compare"]) {
    assertStringIncludes(page, said);
  }
  assertStringIncludes(page.replaceAll(/\s+/g, " "), "The clips of 1 more prompts");
  assertStringIncludes(page, "&lt;script&gt;alert(1)");
  // The script that runs is the one that the policy names.
  const script = /<script>([\s\S]*)<\/script>/.exec(page)![1]!;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(script)));
  assertStringIncludes(page, `script-src &apos;sha256-${digest.toBase64()}&apos;`);
});

/** The cells that a path of rectangles covers, as `x,y`, each as often as it is covered. */
function cellsOf(path: string): string[] {
  return [...path.matchAll(/M(\d+) (\d+)h(\d+)v1h-(\d+)z/g)].flatMap(([, x, y, width, back]) => {
    assertEquals(width, back);
    return Array.from({ length: Number(width) }, (_, i) => `${Number(x) + i},${y}`);
  });
}

Deno.test("the route map has every head at every step on its branch, and on no other", async () => {
  const made = comparison(["a"], [() => clip("full"), () => clip("routed", { routes: ROUTES })]);
  const page = await reportPage(made, []);
  assertEquals(page.match(/Routes of/g)!.length, 1);
  const panels = [...page.matchAll(/aria-label="Layer \d[^"]*"\s*>([\s\S]*?)<\/svg>/g)];
  assertEquals(panels.length, 2);
  for (const [layer, [panel, inside]] of panels.entries()) {
    assertStringIncludes(panel!, `Layer ${layer}: `);
    const paths = [...inside!.matchAll(/<path class="branch-(\d)" d="([^"]*)"/g)];
    assertEquals(paths.map(([, branch]) => branch), ["0", "1", "2"]);
    const seen = paths.flatMap(([, branch, d]) => cellsOf(d!).map((cell) => `${cell}: ${branch}`));
    const expected = ROUTES.flatMap((step, x) => [...step[layer]!].map((branch, y) => `${x},${y}: ${branch}`));
    assertEquals(seen.sort(), expected.sort());
  }
  // 7 of 24 are full, 7 core-set, 10 sliding.
  for (const share of ["full, 29.2 %", "core-set, 29.2 %", "sliding tile, 41.7 %"]) {
    assertStringIncludes(page.replaceAll(/\s+/g, " "), share);
  }
  assertStringIncludes(page, `<th scope="row">2</th><td>900</td><td>16.7 %</td><td>66.7 %</td><td>16.7 %</td>`);
  assertStringIncludes(page, "step 4, timestep 250");
});

Deno.test("clips beside one another, in rows where they would be too wide", () => {
  const [a, b] = [movingShapes(32, 16, 2), movingShapes(32, 16, 2)];
  b.data.reverse();
  const pair = sideBySide([a, b]);
  assertEquals([pair.width, pair.height, pair.frames, pair.fps], [68, 16, 2, 16]);
  const row = frameOf(pair, 1).subarray(3 * 68 * 3, 4 * 68 * 3);
  assertEquals(row.slice(0, 96), frameOf(a, 1).slice(3 * 96, 4 * 96));
  assertEquals(row.slice(96, 108), new Uint8Array(12).fill(128));
  assertEquals(row.slice(108), frameOf(b, 1).slice(3 * 96, 4 * 96));
  const wide = { ...movingShapes(16, 16, 1), width: 1600, height: 2, data: new Uint8Array(1600 * 2 * 3) };
  const three = sideBySide([wide, wide, { ...wide, data: wide.data.map(() => 9) }]);
  assertEquals([three.width, three.height], [3204, 8]);
  assertEquals(three.data[6 * 3204 * 3], 9);
  assertEquals(three.data.at(-1), 128);
});

Deno.test("posters are the first frame, made smaller where it is wide", () => {
  const small = movingShapes(64, 48, 2);
  const same = decodePng(encodePoster(small));
  assertEquals(new Uint8Array(same.data), frameOf(small, 0).slice());
  const wide = movingShapes(832, 480, 1);
  const poster = decodePng(encodePoster(wide));
  assertEquals([poster.width, poster.height, poster.channels], [277, 160, 3]);
  let sum = 0;
  for (const y of [6, 7, 8]) for (const x of [30, 31, 32]) sum += wide.data[(y * 832 + x) * 3 + 1]!;
  assertEquals(poster.data[(2 * 277 + 10) * 3 + 1], Math.round(sum / 9));
});

Deno.test("a page takes the clips of as many prompts as it can hold, and of one at least", () =>
  inTempDir(async (dir) => {
    const { prompts } = comparison(["a", "b", "c"], [() => clip("full")]);
    for (const { folder } of prompts) {
      await Deno.mkdir(join(dir, folder));
      await Deno.writeFile(join(dir, folder, "full.mp4"), new Uint8Array(3000));
      await Deno.writeFile(join(dir, folder, "full.png"), Uint8Array.of(1, 2, 3));
    }
    // 4000 characters and some a prompt.
    for (const [most, count] of [[1, 1], [8000, 1], [8100, 2], [12_200, 3], [1e6, 3]] as const) {
      assertEquals((await embedClips(dir, prompts, most)).length, count, `${most} bytes`);
    }
    const [first] = await embedClips(dir, prompts, 1);
    assertEquals(first!.media[0]!.poster, "data:image/png;base64,AQID");
    assert(first!.media[0]!.video.startsWith("data:video/mp4;base64,AAAA"));
  }));
