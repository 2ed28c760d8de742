/**
 * How the clips were made.
 *
 * @module
 */
import type { Comparison } from "../compare/comparison.ts";
import { type Html, html } from "./html.ts";

/** Model, adapter, settings as they were written, command line. */
export function makingSection(comparison: Comparison): Html {
  const { model, adapter, precision, settings, commandLine } = comparison;
  return html`
    <section aria-labelledby="making">
      <h2 id="making">How it was made</h2>
      <dl>
    <dt>Model</dt><dd>${model}</dd>
    <dt>Adapter</dt><dd>${adapter}, ${precision}</dd>
    <dt>Sampling</dt><dd>${sampling(comparison)}</dd>
    ${settings.map(({ name, words }) => html`<dt>${name}</dt><dd><code>${words}</code></dd>\n`)}<dt>Command line</dt>
    <dd><code>${commandLine}</code></dd>
      </dl>
    </section>
  `;
}

/** Steps and guidance: of all clips, or of each setting where they differ, as the first prompt had them. */
function sampling({ prompts }: Comparison): string {
  const each = prompts[0]!.clips.map(({ setting, steps, guidance }) => ({
    setting,
    text: `${steps} steps, guidance ${guidance}`,
  }));
  const same = each.every(({ text }) => text === each[0]!.text);
  return same ? each[0]!.text : each.map(({ setting, text }) => `${setting}: ${text}`).join("; ");
}
