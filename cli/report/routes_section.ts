import { BRANCHES } from "../../model/vorta/branch.ts";
import type { Comparison } from "../compare/comparison.ts";
import { type Html, html } from "./html.ts";

/** In the order of BRANCHES. */
const NAMES = ["full", "core-set", "sliding tile"];

/** [steps][layers], one digit per head. */
type Routes = readonly (readonly string[])[];

/**
 * The route maps, one section per setting with routed attention: which branch of self-attention each head took in each
 * layer at each step. Routes depend on the timestep only, so all clips have the same.
 */
export function routesSections({ prompts }: Comparison): Html[] {
  return prompts[0]!.clips.flatMap(({ setting, routes, timesteps }, i) =>
    routes === undefined ? [] : [routesSection(setting, routes, timesteps, `routes-${i}`)]
  );
}

function routesSection(setting: string, routes: Routes, timesteps: readonly number[], id: string): Html {
  const layers = routes[0]!.map((_, layer) => routes.map((step) => step[layer]!));
  return html`<section aria-labelledby="${id}">
<h2 id="${id}">Routes of ${setting}</h2>
${legend(routes)}
<h3>Share of the heads at each step</h3>
${shareChart(routes, timesteps)}
${shareTable(routes, timesteps)}
<h3>Each head in each layer</h3>
<p class="note">One panel per layer, one row per head, one column per step. The first step, with the most noise, is on the left.</p>
<div class="layers">
${layers.map(layerPanel)}</div>
</section>`;
}

/** The legend of the colours, with the share of each branch. */
function legend(routes: Routes): Html {
  const all = routes.flat().join("");
  return html`<ul class="legend">${
    NAMES.map((name, branch) =>
      html`<li><svg viewBox="0 0 1 1" aria-hidden="true"><path class="branch-${branch}" d="M0 0h1v1h-1z"/></svg>${name},
${percent(share(all, branch))}</li>`
    )
  }</ul>`;
}

/** One bar per step, divided by the shares of the branches, with full attention at the bottom. */
function shareChart(routes: Routes, timesteps: readonly number[]): Html {
  const bars = BRANCHES.map((_, branch) =>
    routes.map((step, x) => {
      const heads = step.join("");
      const under = [...BRANCHES.keys()].slice(0, branch).reduce((sum, below) => sum + share(heads, below), 0);
      return `M${x} ${rounded(1 - under)}h1V${rounded(1 - under - share(heads, branch))}h-1z`;
    }).join("")
  );
  return html`
    <figure class="shares">
      <svg viewBox="0 0 ${routes.length} 1" preserveAspectRatio="none" role="img"
        aria-label="Share of the heads on each branch at each step; the table after it has the numbers">${paths(bars)}
      </svg>
      <figcaption>${[0, routes.length - 1].map((i) =>
        html`<span>step ${i + 1}, timestep ${Math.round(timesteps[i]!)}</span>`
      )}</figcaption>
    </figure>
  `;
}

function shareTable(routes: Routes, timesteps: readonly number[]): Html {
  return html`
    <details>
      <summary>As numbers</summary>
      <div class="scroll" role="region" aria-label="Share of the heads on each branch at each step" tabindex="0">
        <table>
          <thead>
            <tr><th scope="col">step</th><th scope="col">timestep</th>${NAMES.map((name) =>
              html`<th scope="col">${name}</th>`
            )}</tr>
          </thead>
          <tbody>
    ${routes.map((step, i) =>
      html`<tr><th scope="row">${i + 1}</th><td>${Math.round(timesteps[i]!)}</td>${
        NAMES.map((_, branch) => html`<td>${percent(share(step.join(""), branch))}</td>`)
      }</tr>\n`
    )}</tbody>
        </table>
      </div>
    </details>
  `;
}

/** @param steps of one layer: a digit a head */
function layerPanel(steps: readonly string[], layer: number): Html {
  const heads = steps[0]!.length;
  const cells = BRANCHES.map((_, branch) =>
    Array.from({ length: heads }, (_, head) => runs(steps.map((step) => Number(step[head]) === branch), head)).join("")
  );
  const shares = NAMES.map((name, branch) => `${name} ${percent(share(steps.join(""), branch))}`).join(", ");
  return html`
    <figure>
      <svg viewBox="0 0 ${steps.length} ${heads}" style="--heads: ${heads}" preserveAspectRatio="none" role="img"
        aria-label="Layer ${layer}: ${shares}">${paths(cells)}</svg>
      <figcaption>layer ${layer}</figcaption>
    </figure>
  `;
}

/** Rectangles one high in row `y` over each run of steps that are true. */
function runs(steps: readonly boolean[], y: number): string {
  let path = "";
  for (let x = 0; x < steps.length; x++) {
    let length = 0;
    while (steps[x + length]) length++;
    if (length > 0) path += `M${x} ${y}h${length}v1h-${length}z`;
    x += length;
  }
  return path;
}

function paths(byBranch: readonly string[]): Html[] {
  return byBranch.map((d, branch) =>
    html`
      <path class="branch-${branch}" d="${d}" />
    `
  );
}

/** The share of digits that are `branch`. */
function share(heads: string, branch: number): number {
  return (heads.split(String(branch)).length - 1) / heads.length;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

function rounded(value: number): number {
  return Number(value.toFixed(4));
}
