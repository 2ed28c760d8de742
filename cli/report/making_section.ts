import type { Comparison } from "../compare/comparison.ts";
import { type Html, html } from "./html.ts";

/** How the clips were made: the model, the adapter, the settings as the user wrote them, and the command line. */
export function makingSection({ model, adapter, precision, settings, prompts, commandLine }: Comparison): Html {
  const described = settings.map(({ name, words }, i) => {
    // These are the figures of the first prompt; a prompts file may set others for other prompts.
    const { steps, guidance } = prompts[0]!.clips[i]!;
    return [name, html`<code>${words}</code>, ${steps} steps, guidance ${guidance}`] as const;
  });
  const rows = [
    ["Model", model],
    ["Adapter", `${adapter}, ${precision}`],
    ...described,
    ["Command line", html`<code>${commandLine}</code>`],
  ] as const;
  return html`
    <section aria-labelledby="making">
      <h2 id="making">How it was made</h2>
      <dl>${rows.map(([term, description]) =>
        html`
          <dt>${term}</dt>
          <dd>${description}</dd>
        `
      )}</dl>
    </section>
  `;
}
