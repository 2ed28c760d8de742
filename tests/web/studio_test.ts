/// <reference lib="dom" />
import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import type { Browser, Locator, Page } from "playwright-core";
import { readRecord } from "../../model/video/record.ts";
import { type Server, startServer } from "../cli/serve/server.ts";
import { writeImageModel } from "../image_model.ts";
import { inTempDir, ROOT } from "../process.ts";
import { CHROMIUM, openBrowser, watchPage } from "./chromium.ts";

const PATIENCE = { timeout: 60_000 };

/** What a clip of a second or two is made with. */
const QUICK = { size: "32x32", frames: "5", steps: "2", seed: "7" };

/** Runs a test with a server and a browser. */
function studioTest(
  name: string,
  test: (page: Page, server: Server, dir: string) => Promise<void>,
  options: (dir: string) => Promise<string[]> = () => Promise.resolve([]),
) {
  Deno.test({
    name,
    ignore: CHROMIUM === undefined,
    // The browser's process and its pipes end after the test.
    sanitizeOps: false,
    sanitizeResources: false,
    fn: () =>
      inTempDir(async (dir) => {
        await using server = await startServer(dir, ["--training", join(dir, "runs"), ...await options(dir)]);
        let browser: Browser | undefined;
        try {
          browser = await openBrowser({ webgpu: false });
          const page = await (await browser.newContext()).newPage(), wrong = watchPage(page, server.url);
          await page.goto(`${server.url}/`);
          await page.locator("[name=attention]").waitFor(PATIENCE);
          await test(page, server, dir);
          assertEquals(wrong, []);
          assertEquals(server.errors(), "");
        } finally {
          await browser?.close();
        }
      }),
  });
}

async function fill(page: Page, values: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, value] of Object.entries(values)) {
    const field = page.locator(`[name=${name}]`);
    if (await field.evaluate(({ tagName }) => tagName) === "SELECT") await field.selectOption(value);
    else await field.fill(value);
  }
}

/** Asks for a clip, and waits for its card. */
async function render(page: Page, values: Readonly<Record<string, string>>): Promise<void> {
  const before = await page.locator("#clips > li").count();
  await fill(page, values);
  await page.click("#render");
  await page.locator(`#clips > li:nth-child(${before + 1})`).waitFor(PATIENCE);
}

studioTest("the studio renders clips, compares them, and takes settings from a file", async (page, server, dir) => {
  await fill(page, { prompt: "a red circle" });
  await render(page, { ...QUICK, attention: "vorta" });
  await render(page, { ...QUICK, attention: "full" });
  assertEquals(await page.textContent("#error"), "");
  await page.getByText("The time is that of 1 clip with these settings.").waitFor();
  const fact = (name: string) => page.locator("#cost div").filter({ hasText: name }).locator("dd").textContent();
  assertEquals([await fact("Tokens"), await fact("Density")], ["8 (2×2×2)", "100 %"]);
  assert(/^\d+(\.\d)? MiB$/.test(`${await fact("Memory")}`));
  await fill(page, { steps: "200" });
  await page.getByText("The time is reckoned from 2 clips made here.").waitFor();
  assert(/^about \d+.*s$/.test(`${await fact("Time")}`));
  await fill(page, { size: "33x32" });
  await page.getByText("both must be multiples of 16").waitFor();
  await fill(page, QUICK);
  const cards = page.locator("#clips > li");
  for (const card of await cards.all()) await card.getByRole("checkbox").check();
  await page.getByText("Left: full attention, seed 7. Right: vorta attention, seed 7.").waitFor();
  for (const [way, count] of [["Side by side", 0], ["Difference", 1], ["Wipe", 1]] as const) {
    await page.getByRole("radio", { name: way }).check();
    assertEquals([await page.locator("#compare video").count(), await page.locator(".stack").count()], [2, count]);
  }
  await page.getByRole("button", { name: "One frame forward" }).click();
  const at = Number.parseInt(`${await page.textContent("#frame")}`);
  await page.getByRole("button", { name: "One frame back" }).click();
  assertEquals(await page.textContent("#frame"), `${at === 1 ? 5 : at - 1} of 5`);
  await cards.nth(1).getByText("Routes of all heads").click();
  await cards.nth(1).getByText("layer 7").waitFor();
  const [{ id }] = (await (await fetch(`${server.url}/v1/videos?order=asc`)).json()).data, file = join(dir, "a.mp4");
  await Deno.writeFile(file, (await fetch(`${server.url}/v1/videos/${id}/content`)).body!);
  assertEquals((await readRecord(file))?.attention, "vorta");
  const dropped = [...await Deno.readFile(file)];
  await page.evaluate((bytes) => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([new Uint8Array(bytes)], "a.mp4"));
    document.dispatchEvent(new DragEvent("drop", { dataTransfer }));
  }, dropped);
  await page.waitForFunction(() => document.querySelector<HTMLSelectElement>("[name=attention]")!.value === "vorta");
  await cards.first().getByRole("button", { name: "Delete" }).click();
  await page.waitForFunction(() => document.querySelectorAll("#clips > li").length === 1);
});

studioTest(
  "the studio survives a reload, shows a second page the same, cancels, and says what is wrong",
  async (page) => {
    await fill(page, { prompt: "a red circle", ...QUICK, steps: "1000" });
    await page.click("#render");
    await page.getByText(/denoise \d+ of 1000/).waitFor(PATIENCE);
    await page.reload();
    await page.getByText(/denoise \d+ of 1000/).waitFor(PATIENCE);
    const second = await page.context().newPage();
    await second.goto(page.url());
    await second.getByText(/denoise \d+ of 1000/).waitFor(PATIENCE);
    await second.getByRole("button", { name: "Cancel" }).click();
    for (const each of [page, second]) await each.getByText("the job was cancelled").waitFor(PATIENCE);
    await fill(page, { prompt: "a red circle", size: "1000x1000" });
    await page.click("#render");
    await page.locator("#error:not(:empty)").waitFor(PATIENCE);
    assert((await page.textContent("#error"))?.includes("1000x1000"));
  },
);

studioTest("all tabs show a long queue in its order, and what one of them does to it", async (page, { url }) => {
  const second = await page.context().newPage(), tabs = [page, second];
  await second.goto(`${url}/`);
  await second.locator("[name=attention]").waitFor(PATIENCE);
  const headers = { "content-type": "application/json" }, waiting = 30;
  for (let i = 0; i < waiting; i++) {
    const body = JSON.stringify({ prompt: `clip ${i}`, ...QUICK, steps: i === 0 ? 1000 : 2 });
    assertEquals((await fetch(`${url}/v1/videos`, { method: "POST", headers, body })).status, 200);
  }
  await page.reload();
  for (const tab of tabs) {
    await tab.locator(`#jobs > li:nth-child(${waiting})`).waitFor(PATIENCE);
    await tab.locator("#jobs > li").first().getByText(/denoise \d+ of 1000/).waitFor(PATIENCE);
    assertEquals(
      await tab.locator("#jobs strong").allTextContents(),
      Array.from({ length: waiting }, (_, i) => `clip ${i}`),
    );
  }
  // The last waits, the first runs: a tab that did not ask for them cancels both, and the others are made.
  for (const item of [page.locator("#jobs > li").last(), page.locator("#jobs > li").first()]) {
    await item.getByRole("button", { name: "Cancel" }).click();
  }
  for (const tab of tabs) await tab.locator("#clips video").nth(1).waitFor(PATIENCE);
  assertEquals(await page.textContent("#error"), "");
  const [{ id }] = (await (await fetch(`${url}/v1/videos?order=asc`)).json()).data;
  await fetch(`${url}/v1/videos/${id}`, { method: "DELETE" });
  for (const tab of tabs) await tab.getByText("clip 0", { exact: true }).waitFor({ state: "detached" });
});

studioTest(
  "a tab that nobody saw shows what others made and deleted, and says when the server is gone",
  async (page, server) => {
    await render(page, { prompt: "clip 0", ...QUICK });
    await render(page, { prompt: "clip 1" });
    const see = (isSeen: boolean) =>
      page.evaluate((isHidden) => {
        Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
      }, !isSeen);
    await see(false);
    await page.evaluate(() => document.querySelector("#error")!.textContent = "still to be read");
    const second = await page.context().newPage();
    await second.goto(page.url());
    await second.locator("#clips > li").nth(1).waitFor(PATIENCE);
    await render(second, { prompt: "clip 2", ...QUICK });
    await render(second, { prompt: "clip 3" });
    await second.locator("#clips > li").nth(2).getByRole("button", { name: "Delete" }).click();
    await second.getByText("clip 1", { exact: true }).waitFor({ state: "detached" });
    assertEquals(await page.locator("#clips strong").allTextContents(), ["clip 1", "clip 0"]);
    await see(true);
    await page.getByText("clip 1", { exact: true }).waitFor({ state: "detached" });
    await page.getByText("clip 3", { exact: true }).waitFor(PATIENCE);
    assertEquals(await page.locator("#clips strong").allTextContents(), ["clip 3", "clip 2", "clip 0"]);
    assertEquals(await page.textContent("#error"), "still to be read");
    const gone = page.getByText("The server does not answer.");
    assertEquals(await gone.isVisible(), false);
    server.process.kill("SIGKILL");
    await gone.waitFor(PATIENCE);
  },
);

studioTest("a map of tiles is offered where the server's own attention selects tiles", async (page) => {
  const map = page.locator("[name=tile-map]");
  assertEquals(await page.locator("[name=attention] option").first().textContent(), "default (veda)");
  assertEquals(await map.isVisible(), true);
  await fill(page, { attention: "vorta" });
  assertEquals(await map.isVisible(), false);
}, () => Promise.resolve(["--attention", "veda", "--keep", "0.3"]));

studioTest("older clips follow, although the last one that was shown was deleted", async (page, { url }) => {
  // Those that were cancelled are listed, too.
  const headers = { "content-type": "application/json" }, count = 27;
  for (let i = 0; i < count; i++) {
    const body = JSON.stringify({ prompt: `clip ${i}`, ...QUICK, steps: i === 0 ? 1000 : 2 });
    const { id } = await (await fetch(`${url}/v1/videos`, { method: "POST", headers, body })).json();
    if (i > 0) await (await fetch(`${url}/v1/videos/${id}/cancel`, { method: "POST" })).body?.cancel();
  }
  await page.reload();
  await page.locator("#clips > li:nth-child(24)").getByRole("button", { name: "Delete" }).click();
  await page.getByText("clip 3", { exact: true }).waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Older clips" }).click();
  await page.getByText("clip 1", { exact: true }).waitFor(PATIENCE);
  assertEquals(await page.textContent("#error"), "");
  await page.locator("#jobs").getByRole("button", { name: "Cancel" }).click();
  await page.locator("#clips").getByText("clip 0", { exact: true }).waitFor(PATIENCE);
});

studioTest("the studio draws the figures of a training while it runs", async (page, _, dir) => {
  const log = join(dir, "runs/tiles/metrics.jsonl");
  const write = async (step: number) => {
    const figures = { step, steps: 60, loss: 1 / step, losses: [1], recall: step / 100, lr: 1e-3, seconds: 60 };
    await Deno.writeTextFile(log, `${JSON.stringify(figures)}\n`, { append: true });
  };
  await Deno.mkdir(join(dir, "runs/tiles"), { recursive: true });
  for (let step = 1; step <= 30; step++) await write(step);
  await page.reload();
  const training = page.locator("#training-list details");
  await training.getByText("step 30 of 60, running, about 30 min left").waitFor(PATIENCE);
  await training.locator("summary").press("Enter");
  await training.getByRole("img", { name: "Loss over 30 steps: loss from 1.00 to 0.0333" }).waitFor(PATIENCE);
  await write(31);
  await training.getByRole("img", { name: /^Recall .* over 31 steps: recall from 0.0100 to 0.310$/ }).waitFor(PATIENCE);
  await training.getByText("Means of 20 steps").click();
  await training.getByRole("img", { name: "Loss over 31 steps: loss from 1.00 to 0.0504" }).waitFor(PATIENCE);
  assertEquals(await training.locator("figcaption").allTextContents(), [
    "Loss",
    "Recall of the oracle's tiles, and attention kept",
    "Learning rate",
  ]);
  await training.locator("summary").press("Enter");
  await training.locator("figure").first().waitFor({ state: "detached" });
});

studioTest("the studio makes a clip of a picture, and uses it again", async (page, _, dir) => {
  const file = (name: string) => join(ROOT, "tests/fixtures/tiny_wan_a14b_pipeline", name);
  const [first, last] = ["Picture to begin with", "Picture to end with (optional)"].map((label) =>
    page.getByLabel(label, { exact: true })
  ) as [Locator, Locator];
  await first.setInputFiles(file("first.png"));
  await last.setInputFiles(file("last.png"));
  await page.getByRole("button", { name: "Remove the picture to end with" }).click();
  await render(page, { prompt: "a cat", steps: "1", frames: "5" });
  await page.getByRole("button", { name: "Remove the picture to begin with" }).click();
  await page.getByRole("button", { name: "Use these settings" }).click();
  await page.waitForFunction(() => document.querySelectorAll(".picture img:not([hidden])").length === 1);
  await render(page, { prompt: "a cat", seed: "8" });
  // A curve is made of it, too: full attention was made already.
  await page.locator("#clips > li").first().getByRole("button", { name: "Curve" }).click();
  await page.fill("#curve-shares", "0.5, 0.50");
  await page.getByRole("button", { name: "Queue what is missing" }).click();
  await page.locator("#curve-rows tr").nth(1).waitFor(PATIENCE);
  assertEquals(await page.locator("#clips > li").count(), 3);
  await page.getByRole("button", { name: "Remove the picture to begin with" }).click();
  // A picture may be dropped on the page. What it holds is for the server to judge.
  await page.evaluate(() => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File(["\xff\xd8\xff"], "a.jpg", { type: "image/jpeg" }));
    document.dispatchEvent(new DragEvent("drop", { dataTransfer }));
  });
  await page.getByRole("button", { name: "Remove the picture to begin with" }).waitFor();
  assertEquals(await page.textContent("#error"), "");
  await Deno.writeTextFile(join(dir, "no.png"), "no picture");
  await first.setInputFiles(join(dir, "no.png"));
  await page.click("#render");
  await page.getByText('"input_reference" is no PNG, JPEG, WebP or GIF: send one of these').waitFor(PATIENCE);
}, async (dir) => {
  await writeImageModel(join(dir, "model"));
  return ["--model", join(dir, "model")];
});

studioTest("the studio can be used with the keyboard alone", async (page) => {
  await page.locator("#prompt").focus();
  await page.keyboard.press("Control+A");
  await page.keyboard.type("a blue ring");
  const reach = async (id: string) => {
    for (let i = 0; i < 40; i++) {
      await page.keyboard.press("Tab");
      if (
        await page.evaluate(() => document.activeElement?.getAttribute("name")) === id
      ) return;
    }
    throw new Error(`${id} was not reached`);
  };
  for (const name of ["size", "frames", "steps"] as const) {
    await reach(name);
    await page.keyboard.type(QUICK[name]);
  }
  await page.keyboard.press("Enter");
  await page.locator("#clips > li").waitFor(PATIENCE);
  assertEquals(await page.locator("#clips strong").textContent(), "a blue ring");
  // Everything has a name for those who do not see it, and a narrow page is not wider than its window.
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll<HTMLInputElement>("button, input, select, textarea, video, canvas, a, progress")]
      .filter((at) => !at.labels?.length && !at.ariaLabel && !at.textContent.trim()).map(({ outerHTML }) => outerHTML)
  );
  assertEquals(nameless, []);
  await page.setViewportSize({ width: 420, height: 800 });
  assertEquals(await page.evaluate(() => document.documentElement.scrollWidth), 420);
});

studioTest("the studio draws which tiles a chosen one looks at over all frames", async (page) => {
  await fill(page, { prompt: "a red circle", ...QUICK, size: "64x64", frames: "9", steps: "3" });
  assertEquals(await page.locator("[name=tile-map]").isVisible(), false);
  await fill(page, { attention: "veda", keep: "0.3" });
  await page.locator("[name=tile-map]").check();
  await page.click("#render");
  await page.getByText("Which tiles a tile looks at").click(PATIENCE);
  const pictures = page.locator(".pictures canvas"), said = page.locator(".wide [role=status]");
  await pictures.first().waitFor(PATIENCE);
  const count = await pictures.count();
  const seen = async () => {
    const [, tile, all, looksAt] = /^Tile (\d+) of (\d+) looks at (\d+) /.exec(`${await said.textContent()}`)!;
    return { tile: Number(tile), all: Number(all), looksAt: Number(looksAt) };
  };
  const first = await seen();
  assert(first.all >= count && first.looksAt > 0 && first.looksAt < first.all, JSON.stringify(first));
  // The last tile of the last picture.
  const last = pictures.last(), { width, height } = (await last.boundingBox())!;
  await last.click({ position: { x: width - 3, y: height - 3 } });
  assertEquals((await seen()).tile, first.all);
  // Its own edge is drawn there in its colour, and the pictures are not empty.
  const edge = await last.evaluate((canvas: HTMLCanvasElement) => {
    const style = document.createElement("canvas").getContext("2d")!;
    style.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--coreset");
    style.fillRect(0, 0, 1, 1);
    const pixel = (
      context: CanvasRenderingContext2D,
      x: number,
      y: number,
    ) => [...context.getImageData(x, y, 1, 1).data];
    return [pixel(canvas.getContext("2d")!, canvas.width - 3, canvas.height - 3), pixel(style, 0, 0)];
  });
  assertEquals(edge[0], edge[1]);
  // The keyboard chooses, too.
  for (const name of [/^Tile in time/, /^Row/, /^Column/]) {
    // One that has nothing to choose is disabled.
    const along = page.getByRole("slider", { name });
    if (await along.isEnabled()) await along.press("Home");
  }
  assertEquals((await seen()).tile, 1);
});

studioTest("the studio makes a curve of quality and time over density", async (page) => {
  await fill(page, { prompt: "a red circle", ...QUICK, size: "64x64", frames: "9", steps: "2" });
  // Fewer clips than there are at first.
  await page.evaluate(() => document.querySelector<HTMLInputElement>("#curve-shares")!.value = "0.3");
  await page.click("#make-curve");
  const rows = page.locator("#curve-rows tr");
  await rows.nth(1).waitFor(PATIENCE);
  await page.fill("#curve-shares", "0.3, 0.6");
  await page.getByRole("button", { name: "Queue what is missing" }).click();
  await rows.nth(2).waitFor(PATIENCE);
  const texts = await rows.allInnerTexts(), densities = texts.map((row) => Number.parseFloat(row.split("\t")[1]!));
  assertEquals(densities, densities.toSorted((a, b) => a - b));
  assert(/^full\t100 %\t.*s\t–\t–$/.test(texts.at(-1)!), texts.join("; "));
  for (const row of texts.slice(0, -1)) {
    assert(/^veda, keep 0\.\d+\t.* %\t.*s\t\d+\.\d dB\t-?\d\.\d{3}$/.test(row), row);
  }
  assertEquals(await page.locator("#curve canvas").count(), 3);
  await page.getByRole("button", { name: "Close" }).click();
  assertEquals(await page.locator("#curve").isVisible(), false);
});
