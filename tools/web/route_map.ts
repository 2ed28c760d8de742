/// <reference lib="dom" />
import { BRANCHES } from "../../model/vorta/branch.ts";
import { element } from "./elements.ts";

/** What the branches are called here, in the order of BRANCHES. */
const NAMES = ["full", "core-set", "sliding tile"];

/** Pixels of a cell. */
const CELL = 6;

/**
 * The branch of every head: a panel for each layer, with a row for each head and a column for each step.
 *
 * @param routes [steps][layers][heads], indices into BRANCHES
 */
export function routeMap(routes: readonly (readonly Uint8Array[])[]): HTMLElement {
  const map = element("div", { className: "layers" });
  const layers = routes[0]?.length ?? 0;
  for (let layer = 0; layer < layers; layer++) {
    const steps = routes.map((step) => step[layer]!), heads = steps[0]!.length;
    const canvas = element("canvas", { width: steps.length * CELL, height: heads * CELL });
    const shares = NAMES.map((name, branch) => `${name} ${percent(share(steps, branch))}`).join(", ");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Layer ${layer}: ${shares}`);
    draw(canvas, steps);
    const caption = element("figcaption", { textContent: `layer ${layer}` });
    const figure = element("figure");
    figure.append(canvas, caption);
    map.append(figure);
  }
  const legend = element("ul", { className: "legend" });
  for (const [branch, name] of NAMES.entries()) {
    const item = element("li"), all = routes.flatMap((step) => [...step]);
    item.append(
      element("span", { className: `swatch ${BRANCHES[branch]}` }),
      `${name}, ${percent(share(all, branch))}`,
    );
    legend.append(item);
  }
  const note = element("p", {
    className: "note",
    textContent:
      "One panel for each layer, one row for each head, one column for each step. The first step is on the left.",
  });
  const whole = element("div");
  whole.append(legend, note, map);
  return whole;
}

function draw(canvas: HTMLCanvasElement, steps: readonly Uint8Array[]): void {
  const context = canvas.getContext("2d")!, style = getComputedStyle(document.documentElement);
  const colours = BRANCHES.map((branch) => style.getPropertyValue(`--${branch}`));
  for (const [x, heads] of steps.entries()) {
    for (const [y, branch] of heads.entries()) {
      context.fillStyle = colours[branch]!;
      context.fillRect(x * CELL, y * CELL, CELL, CELL);
    }
  }
}

function share(heads: readonly Uint8Array[], branch: number): number {
  const all = heads.flatMap((of) => [...of]);
  return all.filter((of) => of === branch).length / all.length;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)} %`;
}
