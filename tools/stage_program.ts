import { cp } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { create } from "tar";
import { bundle, ROOT } from "./program/bundle.ts";

/** The program, and its threads, which `workerUrl` finds by their sources. */
export const ENTRY_POINTS: EntryPoints = {
  main: "cli/main.ts",
  workers: ["cli/rights/thread.ts", "cli/serve/worker.ts", "cli/serve/side_worker.ts"],
};

/** Sources of bundles. The names of workers' files differ. */
interface EntryPoints {
  readonly main: string;
  readonly workers: readonly string[];
}

/** Flags of Deno for `main`, which gives its threads the rights that they need (cli/rights/). */
export const RUN_FLAGS = ["-A", "--no-prompt", "--unstable-worker-options"];

/** What onnxruntime-web loads from beside the module it is in, when a text encoder is given as an ONNX file. */
const ONNX_RUNTIME_FILES = ["ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];

/**
 * Fills `folder` with all that the program needs: `tilereel.js`, bundles of workers, the demo model, and WebAssembly that
 * is loaded as a file.
 */
export async function stageProgram(folder: string, { main, workers }: EntryPoints = ENTRY_POINTS): Promise<void> {
  await bundle("deno", "--output", join(folder, "tilereel.js"), main);
  for (const source of workers) await bundle("deno", "--output", join(folder, basename(bundled(source))), source);
  await stageFiles(folder);
}

/**
 * Fills `folder` with the library and the program as modules that share code and have the paths of their sources, and with
 * the same files as {@link stageProgram}.
 */
export async function stageModules(folder: string, { main, workers }: EntryPoints = ENTRY_POINTS): Promise<void> {
  const outputs = ["--code-splitting", "--keep-names", "--outdir", folder];
  await bundle("deno", ...outputs, "mod.ts", main, ...workers);
  for (const path of workers.map(bundled)) {
    await Deno.writeTextFile(join(folder, basename(path)), `import "./${path}";\n`);
  }
  await stageFiles(folder);
}

/** The path of a source's bundle. */
function bundled(source: string): string {
  return source.replace(/ts$/, "js");
}

/** Copies the demo model to `demo` in `folder`: where embeddedModelDir looks, or a page's `httpFolder`. */
export async function stageDemoModel(folder: string): Promise<void> {
  await cp(join(ROOT, "model", "demo"), join(folder, "demo"), { recursive: true });
}

/** Puts the page of `tilereel serve` into a folder: cli/serve/studio.ts serves it. */
async function stageStudio(folder: string): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  const sources = join(ROOT, "tools", "studio");
  await bundle("browser", "--minify", "--output", join(folder, "studio.js"), "tools/studio/studio.ts");
  for (const name of ["index.html", "style.css", "trainings.css", "pictures.css"]) {
    await Deno.copyFile(join(sources, name), join(folder, name));
  }
  await Deno.copyFile(join(ROOT, "tools", "web", "style.css"), join(folder, "page.css"));
  await Deno.copyFile(new URL("uPlot.min.css", import.meta.resolve("uplot")), join(folder, "uplot.css"));
}

/** Puts into `folder` what a bundle in it reads as files: the demo model, and WebAssembly. */
async function stageFiles(folder: string): Promise<void> {
  await stageDemoModel(folder);
  await stageStudio(join(folder, "studio"));
  const runtime = new URL(".", import.meta.resolve("onnxruntime-web"));
  for (const name of ONNX_RUNTIME_FILES) await Deno.copyFile(fileURLToPath(new URL(name, runtime)), join(folder, name));
}

/**
 * Packs entries of a folder as a .tar.gz without owners and times: the same content gives the same bytes.
 *
 * @returns the archive, and the bytes that it has unpacked
 */
export async function archiveOf(
  folder: string,
  entries: readonly string[],
): Promise<{ archive: Uint8Array; unpackedBytes: number }> {
  const chunks: Uint8Array[] = [];
  let unpackedBytes = 0;
  const filter = (_: string, { size }: { size: number }) => {
    unpackedBytes += size;
    return true;
  };
  const options = { cwd: folder, gzip: { level: 9 }, portable: true, mtime: new Date(0), filter } as const;
  for await (const chunk of create(options, [...entries])) chunks.push(chunk as Uint8Array);
  return { archive: new Uint8Array(await new Blob(chunks as BlobPart[]).arrayBuffer()), unpackedBytes };
}
