import type { Comparison } from "../compare/comparison.ts";
import { clipsSection } from "./clips_section.ts";
import type { EmbeddedPrompt } from "./embed.ts";
import { figuresSection } from "./figures_section.ts";
import { type Html, html, raw } from "./html.ts";
import { makingSection } from "./making_section.ts";
import script from "./play.js" with { type: "text" };
import { routesSections } from "./routes_section.ts";
import style from "./style.css" with { type: "text" };

/**
 * Writes the page of a comparison: one self-contained HTML file, which also opens from a disk and on a phone.
 * `embedded` has the clips of all prompts, or of the first ones.
 */
export async function reportPage(comparison: Comparison, embedded: readonly EmbeddedPrompt[]): Promise<string> {
  return html`
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <meta http-equiv="Content-Security-Policy" content="${await policy()}">
        <title>tilereel: ${summary(comparison)}</title>
        <style>${raw(style)}</style>
      </head>
      <body>
    ${header(comparison)}
    <main>
    ${figuresSection(comparison)}
    ${clipsSection(comparison, embedded)}
    ${routesSections(comparison)}
    ${makingSection(comparison)}
    </main>
    <script>${raw(script)}</script>
      </body>
    </html>
  `.text.trimStart();
}

/** The content security policy: nothing is loaded from elsewhere, and only the page's own script runs. */
async function policy(): Promise<string> {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(script)));
  return `default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; ` +
    `script-src 'sha256-${hash.toBase64()}'`;
}

function header(comparison: Comparison): Html {
  return html`
    <header>
      <h1>${summary(comparison)}</h1>
      <p>Made by tilereel ${comparison.version} on <time datetime="${comparison.date}">${comparison.date.slice(0, 16)
        .replace("T", " ")} UTC</time></p>
    </header>
  `;
}

function summary({ settings, prompts }: Comparison): string {
  const count = prompts.length === 1 ? `“${prompts[0]!.prompt}”` : `${prompts.length} prompts`;
  return `${count} under ${settings.length} settings`;
}
