/// <reference lib="dom" />
import uPlot from "uplot";
import { element } from "../web/elements.ts";

/** A point of a chart, of one of its series. */
export interface ChartPoint {
  readonly x: number;
  readonly y: number;
  readonly series: string;
}

/** How series are drawn: those with several points as a line. Their colours are variables of the style. */
const SERIES: Readonly<Record<string, { readonly colour: string; readonly label: string }>> = {
  full: { colour: "--full", label: "full" },
  veda: { colour: "--coreset", label: "Veda" },
  vorta: { colour: "--accent", label: "VORTA" },
};
const OTHER = { colour: "--faint" };

const HEIGHT = 240, POINT = 9;

/** A chart of points over density, which are joined within a series. */
export class PointsChart {
  readonly #figure = element("figure");
  #plot: uPlot | undefined;
  #points: readonly ChartPoint[] = [];

  constructor(place: HTMLElement, private readonly title: string) {
    this.#figure.append(element("figcaption", { textContent: `${title}, over density in %` }));
    place.append(this.#figure);
    new ResizeObserver(() => this.#plot?.setSize({ width: this.#width, height: HEIGHT })).observe(this.#figure);
    // Colours are drawn into the picture.
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.show(this.#points));
  }

  get #width(): number {
    return Math.max(200, this.#figure.clientWidth);
  }

  /** @param points in ascending order of x */
  show(points: readonly ChartPoint[]): void {
    this.#points = points;
    this.#plot?.destroy();
    this.#plot = undefined;
    this.#figure.hidden = points.length === 0;
    if (points.length === 0) return;
    const style = getComputedStyle(document.documentElement), colour = (name: string) => style.getPropertyValue(name);
    const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const names = [...new Set(points.map(({ series }) => series))];
    const digits = (value: number) => String(Number(value.toPrecision(3)));
    this.#plot = new uPlot(
      {
        ...{ width: this.#width, height: HEIGHT },
        scales: { x: { time: false, range: [0, 105] }, y: { range: rangeOf(points) } },
        axes: [{ ...axis, values: (_, ticks) => ticks.map(digits) }, {
          ...{ ...axis, size: 56 },
          values: (_, ticks) => ticks.map(digits),
        }],
        legend: { markers: { width: 3 } },
        series: [
          { label: "density", value: (_, value) => value === null ? "–" : `${digits(value)} %` },
          ...names.map((name): uPlot.Series => {
            const { colour: variable, label = name } = { label: name, ...SERIES[name] ?? OTHER };
            const stroke = colour(variable);
            return {
              ...{ label, stroke, width: 2, spanGaps: true, points: { show: true, size: POINT, fill: stroke } },
              value: (_, value) => (value === null ? "–" : digits(value)),
            };
          }),
        ],
      },
      [
        points.map(({ x }) => x),
        ...names.map((name) => points.map(({ series, y }) => (series === name ? y : null))),
      ],
      this.#figure,
    );
    const canvas = this.#plot.root.querySelector("canvas")!;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${this.title}: the table below has its ${points.length} points`);
  }
}

/** From 0 or a little below the lowest point to a little above the highest. */
function rangeOf(points: readonly ChartPoint[]): [number, number] {
  const all = points.map(({ y }) => y), least = Math.min(...all), most = Math.max(...all);
  const margin = 0.1 * Math.max(most - least, 0.1 * most, 1e-9);
  return [least > 0.6 * most ? least - margin : 0, most + margin];
}
