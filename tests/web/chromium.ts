import { existsSync } from "node:fs";
import { type Browser, chromium, type Page } from "playwright-core";

/** Where Debian and others install Chromium. `CHROMIUM` names another. */
const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** The installed Chromium, if there is one. */
export const CHROMIUM = [Deno.env.get("CHROMIUM"), ...PLACES].find((path) => path && existsSync(path));

/** WebGPU by SwiftShader, which runs on every machine. It has 10 storage buffers a stage and no f16. */
const WEBGPU = [
  "--enable-unsafe-webgpu",
  "--enable-features=Vulkan",
  "--use-vulkan=swiftshader",
  "--use-webgpu-adapter=swiftshader",
  // A busy machine is not a hanging GPU.
  "--disable-gpu-watchdog",
];

/** Starts Chromium without a window. */
export async function openBrowser({ webgpu = true } = {}): Promise<Browser> {
  return await chromium.launch({
    executablePath: CHROMIUM!,
    env: environment(),
    args: ["--no-sandbox", ...webgpu ? WEBGPU : ["--disable-features=WebGPU", "--disable-gpu"]],
  });
}

/** The environment without the choice of a Vulkan driver, which would hide Chromium's own SwiftShader. */
function environment(): Record<string, string> {
  const { VK_DRIVER_FILES: _, VK_ICD_FILENAMES: __, ...rest } = Deno.env.toObject();
  return rest;
}

/** Errors of a page, and requests that leave the machine. */
export function watchPage(page: Page, url: string): string[] {
  const wrong: string[] = [];
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !/^(data|blob):/.test(request.url())) wrong.push(request.url());
  });
  return wrong;
}
