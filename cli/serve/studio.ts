import { join } from "node:path";
import { bundleStudio } from "./bundle_studio.ts";

/** A file of the studio page. */
interface StudioFile {
  readonly type: string;
  readonly read: () => Promise<Uint8Array<ArrayBuffer>>;
}

const CSS = "text/css; charset=utf-8";

let bundledBy = bundleStudio;

/** Has another thread bundle the page's script, which may run Deno. */
export function bundleStudioBy(bundle: typeof bundleStudio): void {
  bundledBy = bundle;
}

/** The page may load nothing from elsewhere, and may not be shown in a frame of another site. */
export const PAGE_HEADERS = {
  "content-security-policy": "frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
} as const;

/**
 * The files of the studio page, by their paths. In a checkout, its script is bundled when it is first asked for; in all
 * packages it lies beside the program (see tools/stage_program.ts).
 */
export function studioFiles(): ReadonlyMap<string, StudioFile> {
  const here = import.meta.dirname!, isSource = import.meta.url.endsWith(".ts");
  const folder = isSource ? join(here, "../../tools/studio") : join(here, "studio");
  const file = (name: string, type: string): StudioFile => ({ type, read: () => Deno.readFile(join(folder, name)) });
  let script: Promise<Uint8Array<ArrayBuffer>> | undefined;
  const bundled = () => {
    script ??= bundledBy();
    script.catch(() => script = undefined);
    return script;
  };
  return new Map([
    ["/", file("index.html", "text/html; charset=utf-8")],
    ["/page.css", {
      ...file("page.css", CSS),
      ...isSource && { read: () => Deno.readFile(join(folder, "../web/style.css")) },
    }],
    ["/style.css", file("style.css", CSS)],
    ["/trainings.css", file("trainings.css", CSS)],
    ["/pictures.css", file("pictures.css", CSS)],
    ["/uplot.css", { ...file("uplot.css", CSS), ...isSource && { read: () => Deno.readFile(chartStyle()) } }],
    ["/studio.js", { ...file("studio.js", "text/javascript; charset=utf-8"), ...isSource && { read: bundled } }],
  ]);
}

/** The style of the charts, which comes with their library. */
function chartStyle(): URL {
  return new URL("uPlot.min.css", import.meta.resolve("uplot"));
}
