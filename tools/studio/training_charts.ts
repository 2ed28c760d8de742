/// <reference lib="dom" />
import uPlot from "uplot";
import type { Figures } from "../../cli/serve/trainings/log_reader.ts";
import { element } from "../web/elements.ts";

/** The charts of a training, in their order: which figures they show. A chart without any is left out. */
const CHARTS: readonly ChartKind[] = [
  { title: "Loss", shows: /^loss(es\.|$)/, isLogarithmic: true },
  { title: "Share of heads", shows: /^shares\./ },
  { title: "Recall of the oracle's tiles, and attention kept", shows: /^(recall|kept|oracle)$/ },
  { title: "Density", shows: /^density$/ },
  { title: "Learning rate", shows: /^lr$/ },
  { title: "Norm of the gradient", shows: /^gradNorm$/, isLogarithmic: true },
];

interface ChartKind {
  readonly title: string;
  /** The names of its figures. */
  readonly shows: RegExp;
  readonly isLogarithmic?: boolean;
}

/** Lines are told apart by their colours, which are variables of the style, and by their dashes. */
const LINES: readonly (readonly [colour: string, dash: number[]])[] = [
  ["--line-1", []],
  ["--line-2", [8, 4]],
  ["--line-3", [2, 3]],
  ["--line-4", [8, 3, 2, 3]],
  ["--line-5", [16, 4]],
];

const HEIGHT = 200, DIGITS = 3;

type Column = readonly (number | null)[];

/** Charts of the figures of a training over its steps. They grow with it. */
export class TrainingCharts implements Disposable {
  #steps: Figures[] = [];
  #window = 1;
  readonly #charts: Chart[] = [];

  constructor(private readonly place: HTMLElement) {}

  /** @param begins whether the steps take the place of all before */
  add(steps: readonly Figures[], begins: boolean): void {
    if (begins) this.#steps = [];
    this.#steps.push(...steps);
    this.#draw();
  }

  /** Shows each figure as its mean over the last `window` steps. */
  smooth(window: number): void {
    this.#window = window;
    this.#draw();
  }

  [Symbol.dispose](): void {
    for (const chart of this.#charts.splice(0)) chart[Symbol.dispose]();
  }

  #draw(): void {
    const names = [...new Set(this.#steps.flatMap(Object.keys))], x = this.#steps.map(({ step }) => step);
    for (const kind of CHARTS) {
      const shown = names.filter((name) => kind.shows.test(name));
      const columns = new Map(shown.map((name) => [name, this.#column(name, kind)]));
      for (const [name, column] of columns) if (column.every((value) => value === null)) columns.delete(name);
      let chart = this.#charts.find(({ title }) => title === kind.title);
      if (chart && String([...columns.keys()]) !== chart.names) {
        this.#charts.splice(this.#charts.indexOf(chart), 1);
        chart[Symbol.dispose]();
        chart = undefined;
      }
      if (columns.size === 0) continue;
      if (!chart) this.#charts.push(chart = new Chart(this.place, kind, [...columns.keys()]));
      chart.show(x, [...columns.values()]);
    }
  }

  #column(name: string, { isLogarithmic = false }: ChartKind): Column {
    const of = this.#steps.map((step) => step[name] ?? null);
    const means = this.#window === 1
      ? of
      : of.map((_, at) => mean(of.slice(Math.max(0, at + 1 - this.#window), at + 1)));
    return isLogarithmic ? means.map((value) => (value !== null && value > 0 ? value : null)) : means;
  }
}

/** Lines over steps, with their values at the pointer below. */
class Chart implements Disposable {
  readonly names: string;
  readonly #plot: uPlot;
  readonly #figure = element("figure");
  readonly #observer: ResizeObserver;

  constructor(place: HTMLElement, private readonly kind: ChartKind, private readonly shown: readonly string[]) {
    this.names = String(shown);
    this.#figure.append(element("figcaption", { textContent: kind.title }));
    place.append(this.#figure);
    const style = getComputedStyle(document.documentElement), colour = (name: string) => style.getPropertyValue(name);
    const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    this.#plot = new uPlot(
      {
        ...{ width: this.#width, height: HEIGHT },
        scales: { x: { time: false }, y: { distr: kind.isLogarithmic ? 3 : 1 } },
        axes: [{ ...axis, size: 28, values: (_, ticks) => ticks.map(String) }, {
          ...{ ...axis, size: 64 },
          values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : String(Number(tick.toPrecision(DIGITS))))),
        }],
        series: [
          { label: "step", value: (plot, value, _, at) => String(at === null ? plot.data[0].at(-1) ?? "" : value) },
          ...shown.map((name, i): uPlot.Series => {
            const [stroke, dash] = LINES[i % LINES.length]!;
            return {
              ...{ label: name.replace(/^\w+\./, ""), stroke: colour(stroke), width: 2, dash, points: { show: false } },
              // Without a pointer, the last ones.
              value: (plot, value, line, at) => numberText(at === null ? lastOf(plot.data[line] as Column) : value),
            };
          }),
        ],
      },
      undefined,
      this.#figure,
    );
    this.#plot.root.querySelector("canvas")!.setAttribute("role", "img");
    this.#observer = new ResizeObserver(() => this.#plot.setSize({ width: this.#width, height: HEIGHT }));
    this.#observer.observe(this.#figure);
  }

  get title(): string {
    return this.kind.title;
  }

  get #width(): number {
    return Math.max(160, this.#figure.clientWidth);
  }

  show(x: readonly number[], columns: readonly Column[]): void {
    this.#plot.setData([x as number[], ...columns as (number | null)[][]]);
    const texts = this.shown.map((name, i) => {
      const values = columns[i]!.filter((value) => value !== null);
      return `${name} from ${numberText(values[0])} to ${numberText(lastOf(values))}`;
    });
    const label = `${this.title} over ${x.length} steps: ${texts.join(", ")}`;
    this.#plot.root.querySelector("canvas")!.setAttribute("aria-label", label);
  }

  [Symbol.dispose](): void {
    this.#observer.disconnect();
    this.#plot.destroy();
    this.#figure.remove();
  }
}

function lastOf(column: Column): number | null | undefined {
  return column.findLast((value) => value !== null);
}

function numberText(value: number | null | undefined): string {
  return typeof value === "number" ? value.toPrecision(DIGITS) : "–";
}

function mean(column: Column): number | null {
  const values = column.filter((value) => value !== null);
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
}
