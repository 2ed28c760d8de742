import { assert, assertEquals } from "@std/assert";
import { decode } from "fast-png";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import type { Browser, Download, Page } from "playwright-core";
import { buildPage } from "../../tools/web/build.ts";
import { serveFolder } from "../../tools/web/serve_folder.ts";
import { inTempDir, MODEL, tilereel } from "../process.ts";
import { CHROMIUM, openBrowser, watchPage } from "./chromium.ts";

/** A clip that SwiftShader renders in seconds. */
const QUICK = { size: "32x32", frames: "5", steps: "2", seed: "1" };

/** The time in which the page must answer. SwiftShader compiles all kernels anew in each browser. */
const PATIENCE = { timeout: 300_000 };

/** Runs a test with the built page in a browser. */
function pageTest(name: string, test: (page: Page, dir: string) => Promise<void>, options: { webgpu?: boolean } = {}) {
  Deno.test({
    name,
    ignore: CHROMIUM === undefined,
    // The browser's process and its pipes end after the test.
    sanitizeOps: false,
    sanitizeResources: false,
    fn: () =>
      inTempDir(async (dir) => {
        // As on a static host that has other pages, too.
        await buildPage(join(dir, "web/some page"));
        const server = serveFolder(join(dir, "web"));
        let browser: Browser | undefined;
        try {
          browser = await openBrowser(options);
          const page = await browser.newPage();
          const address = `http://127.0.0.1:${server.addr.port}/some%20page/`, wrong = watchPage(page, address);
          await page.goto(address);
          await test(page, dir);
          assertEquals(wrong, []);
        } finally {
          await browser?.close();
          await server.shutdown();
        }
      }),
  });
}

/** Fills in the form. */
async function fill(page: Page, values: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, value] of Object.entries(values)) {
    if (name === "attention") await page.check(`input[name=attention][value=${value}]`);
    else await page.locator(`[name=${name}]`).fill(value);
  }
}

/** Renders a clip, and gives its card. */
async function render(page: Page, values: Readonly<Record<string, string>>, button = "#render") {
  await fill(page, values);
  const before = await page.locator("#clips > li").count();
  await page.click(button);
  await page.locator("#render:enabled").waitFor(PATIENCE);
  assertEquals(await page.textContent("#error"), "");
  assertEquals(await page.locator("#clips > li").count(), before + 1);
  return page.locator("#clips > li").first();
}

async function saved(page: Page, name: string, path: string): Promise<string> {
  const [download] = await Promise.all<Download | void>([
    page.waitForEvent("download"),
    page.getByRole("button", { name }).first().click(),
  ]);
  await (download as Download).saveAs(path);
  return path;
}

async function pixels(path: string): Promise<Uint8Array> {
  return decode(await Deno.readFile(path)).data as Uint8Array;
}

/** The peak signal-to-noise ratio of two pictures of one size, in dB. */
function psnr(a: Uint8Array, b: Uint8Array): number {
  assertEquals(a.length, b.length);
  const squares = a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0);
  return 10 * Math.log10(255 ** 2 * a.length / squares);
}

pageTest("the page renders what the command line renders, with each kind of attention", async (page, dir) => {
  for (const attention of ["full", "vorta", "veda"]) {
    // The buttons of the text that explains them.
    const card = await render(page, QUICK, `button[data-attention=${attention}]`);
    assertEquals(await card.getByText("Routes of all heads").count(), attention === "vorta" ? 1 : 0);
    const ours = await saved(page, "Save PNG", join(dir, `${attention}.png`)),
      theirs = join(dir, `cli-${attention}.png`);
    const args = ["--size", QUICK.size, "--frames", QUICK.frames, "--steps", QUICK.steps, "--seed", QUICK.seed];
    const made = await tilereel([
      ...["generate", "a big red circle moving right on a black background", "--attention", attention, ...args],
      ...["--out", theirs, "--gpu", "software"],
      ...attention === "veda" ? ["--keep", "0.75"] : [],
    ]);
    assertEquals(made.code, 0, made.err);
    const decibels = psnr(await pixels(ours), await pixels(theirs));
    assert(decibels >= 40, `${attention}: ${decibels} dB`);
  }
  // SwiftShader has no f16, and 10 storage buffers a stage.
  assert((await page.textContent("#adapter"))?.endsWith(" in f32."));
  assertEquals(await page.evaluate(limitsOfAdapter), { buffers: 10, f16: false });
});

pageTest("a clip can be cancelled, and the next one is rendered", async (page) => {
  await fill(page, { ...QUICK, steps: "200" });
  await page.click("#render");
  await page.getByText(/Denoise \d+ of 200/).waitFor(PATIENCE);
  await page.click("#cancel");
  await page.locator("#render:enabled").waitFor(PATIENCE);
  assertEquals(await page.textContent("#error"), "cancelled");
  await render(page, QUICK);
  // A clip that is saved while another is rendered would take its place.
  await fill(page, { steps: "200" });
  await page.click("#render");
  assertEquals(await page.locator("button.save:enabled").count(), 0);
  await page.getByText(/Denoise \d+ of 200/).waitFor(PATIENCE);
  await page.click("#cancel");
  await page.locator("button.save:enabled").nth(2).waitFor(PATIENCE);
});

pageTest(
  "a folder is read in slices, never whole, and a wrong one is refused as on the command line",
  async (page, dir) => {
    const wrong = join(dir, "wrong"), large = join(dir, "large");
    await Deno.mkdir(wrong);
    await Deno.writeTextFile(join(wrong, "notes.txt"), "no model");
    await page.locator("#folder").setInputFiles(wrong);
    await page.fill("#prompt", "a red circle");
    await page.click("#render");
    await page.locator("#error:not(:empty)").waitFor(PATIENCE);
    const refused = await tilereel(["generate", "a red circle", "--model", wrong, "--gpu", "software"]);
    assertEquals(`tilereel: ${await page.textContent("#error")}\n`, refused.err.replaceAll(wrong, "dropped"));
    await cp(MODEL, large, { recursive: true });
    await enlarge(join(large, "transformer", "diffusion_pytorch_model-00003-of-00003.safetensors"));
    await page.locator("#folder").setInputFiles(large);
    await render(page, QUICK);
    // Another folder whose files have the same names.
    const other = join(dir, "other");
    await cp(MODEL, other, { recursive: true });
    await Deno.writeTextFile(join(other, "model_index.json"), "{");
    await page.locator("#folder").setInputFiles(other);
    await page.click("#render");
    await page.getByText("model_index.json").waitFor(PATIENCE);
  },
);

pageTest("a lost GPU or a crash of the worker gets one sentence, and the next clip is rendered", async (page, dir) => {
  const path = join(dir, "web/some page/worker.js");
  await Deno.writeTextFile(path, FAILING + await Deno.readTextFile(path));
  await page.reload();
  const failed = async (prompt: string) => {
    await fill(page, { ...QUICK, prompt });
    await page.click("#render");
    await page.locator("#error:not(:empty)").waitFor(PATIENCE);
    return await page.textContent("#error");
  };
  const lost = await failed("lose");
  assert(lost?.includes("GPU was lost"), `${lost}`);
  // It gets as far as the first step on another device.
  assertEquals(
    await failed("crash"),
    "The page's worker crashed (the driver is gone): press Render to go on, and please report it if it " +
      "crashes again.",
  );
  await render(page, { ...QUICK, prompt: "a red circle" });
});

pageTest("a size that the demo model draws brings its frames, unless they are the user's own", async (page) => {
  const framesAt = async (size: string) => {
    await page.fill("[name=size]", size);
    await page.locator("[name=size]").blur();
    return await page.inputValue("[name=frames]");
  };
  assertEquals([await framesAt("512x512"), await framesAt("40x40"), await framesAt("256×256")], ["61", "61", "29"]);
  await page.fill("[name=frames]", "5");
  assertEquals(await framesAt("512x512"), "5");
}, { webgpu: false });

pageTest("a browser without WebGPU gets one sentence", async (page) => {
  await page.click("#render");
  await page.locator("#render:enabled").waitFor(PATIENCE);
  const error = await page.textContent("#error");
  assert(error?.includes("WebGPU"), `${error}`);
}, { webgpu: false });

/** Runs in the page. */
async function limitsOfAdapter() {
  const adapter = await navigator.gpu.requestAdapter();
  return { buffers: adapter!.limits.maxStorageBuffersPerShaderStage, f16: adapter!.features.has("shader-f16") };
}

/** Put before the worker: it loses its device or crashes in the first step of clips with such prompts. */
const FAILING = `{
  let device, failing = "";
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (descriptor) {
    return device = await requestDevice.call(this, descriptor);
  };
  addEventListener("message", ({ data }) => failing = data.form?.prompt ?? "");
  const post = self.postMessage.bind(self);
  self.postMessage = (message) => {
    post(message);
    if (message.stage !== "denoise") return;
    if (failing === "lose") device.destroy();
    if (failing === "crash") setTimeout(() => { throw new Error("the driver is gone"); });
    failing = "";
  };
}
`;

/** Appends a tensor of zeros that no model reads, larger than what a page can hold. */
async function enlarge(path: string): Promise<void> {
  const bytes = await Deno.readFile(path), length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const data = bytes.subarray(8 + length), zeros = 6 * 2 ** 30;
  header.unused = { dtype: "U8", shape: [zeros], data_offsets: [data.length, data.length + zeros] };
  const text = new TextEncoder().encode(JSON.stringify(header)), start = new Uint8Array(8);
  new DataView(start.buffer).setBigUint64(0, BigInt(text.length), true);
  using file = await Deno.open(path, { write: true, truncate: true });
  for (const part of [start, text, data]) await file.write(part);
  // The file has a hole there, which takes no room on the disk.
  await file.truncate(8 + text.length + data.length + zeros);
}
