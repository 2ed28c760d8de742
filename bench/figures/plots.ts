/**
 * Plots as SVG, in plain text: lines over logarithmic axes, readable on a light and on a dark page.
 *
 * @module
 */
import type { Precision, Results, Source } from "./measured.ts";

/** A line of a plot. */
export interface Series {
  readonly name: string;
  /** Its points by x. */
  readonly points: readonly (readonly [x: number, y: number])[];
  readonly colour: string;
  readonly dashed?: boolean;
}

/** A plot over two logarithmic axes. */
export interface Plot {
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly series: readonly Series[];
}

interface Axis {
  readonly label: string;
  readonly ticks: readonly number[];
  /** Default: the number itself. */
  readonly show?: (tick: number) => string;
}

const WIDTH = 820, HEIGHT = 460, LEFT = 70, RIGHT = 230, TOP = 44, BOTTOM = 56;
/** Colours that stand out from white and from black. */
const COLOURS = {
  "dawn f16": "#2f81f7",
  "dawn int8": "#12a594",
  "deno f16": "#d97706",
  "deno int8": "#b45cc7",
  torch: "#8b949e",
};

/** Draws a plot. Points beyond the ticks are left out. */
export function svgOf({ title, x, y, series }: Plot): string {
  const scale = ({ ticks }: Axis, from: number, to: number) => {
    const [low, high] = [Math.log(ticks[0]!), Math.log(ticks.at(-1)!)];
    return (value: number) => from + (to - from) * (Math.log(value) - low) / (high - low);
  };
  const atX = scale(x, LEFT, WIDTH - RIGHT), atY = scale(y, HEIGHT - BOTTOM, TOP);
  const inside = ([px, py]: readonly [number, number]) =>
    px >= x.ticks[0]! && px <= x.ticks.at(-1)! && py >= y.ticks[0]! && py <= y.ticks.at(-1)!;
  const show = ({ show = String }: Axis, tick: number) => escaped(show(tick));
  const n = (value: number) => value.toFixed(1);
  const lines = [
    ...x.ticks.map((tick) =>
      `<path class="grid" d="M${n(atX(tick))} ${TOP}V${HEIGHT - BOTTOM}"/>` +
      `<text x="${n(atX(tick))}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${show(x, tick)}</text>`
    ),
    ...y.ticks.map((tick) =>
      `<path class="grid" d="M${LEFT} ${n(atY(tick))}H${WIDTH - RIGHT}"/>` +
      `<text x="${LEFT - 8}" y="${n(atY(tick) + 4)}" text-anchor="end">${show(y, tick)}</text>`
    ),
  ];
  const drawn = series.map(({ name, points, colour, dashed = false }, i) => {
    const seen = points.filter(inside).toSorted(([a], [b]) => a - b);
    const path = seen.map(([px, py], i) => `${i === 0 ? "M" : "L"}${n(atX(px))} ${n(atY(py))}`).join("");
    const dots = seen.map(([px, py]) => `<circle cx="${n(atX(px))}" cy="${n(atY(py))}" r="3.5" fill="${colour}"/>`)
      .join("");
    const at = TOP + 10 + 22 * i, start = WIDTH - RIGHT + 18, dash = dashed ? ' stroke-dasharray="6 4"' : "";
    return `<path d="${path}" fill="none" stroke="${colour}" stroke-width="2"${dash}/>${dots}` +
      `<path d="M${start} ${at}h28" stroke="${colour}" stroke-width="2"${dash}/>` +
      `<text x="${start + 36}" y="${at + 4}">${escaped(name)}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${
    escaped(title)
  }">
<style>
text { font: 13px system-ui, sans-serif; fill: #24292f }
.grid { stroke: #8b949e; stroke-opacity: .3 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }
</style>
<text x="${LEFT}" y="22" style="font-weight: 600; font-size: 15px">${escaped(title)}</text>
${lines.join("\n")}
${drawn.join("\n")}
<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 12}" text-anchor="middle">${escaped(x.label)}</text>
<text transform="translate(18 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">${
    escaped(y.label)
  }</text>
</svg>
`;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}

const OURS = ([["dawn", "f16"], ["dawn", "int8"], ["deno", "f16"], ["deno", "int8"]] as const)
  .map(([source, precision]) => ({
    ...{ source, precision, colour: COLOURS[`${source} ${precision}`] },
    name: `${source === "dawn" ? "Dawn" : "Deno"}, ${precision}`,
  }));

/** The smallest ticks of 1, 2 and 5 times powers of ten that hold all numbers. */
export function ticksFor(numbers: readonly number[], steps: readonly number[] = [1, 2, 5]): number[] {
  if (numbers.length === 0) return [1, 10];
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)], ticks: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    ticks.push(...steps.map((step) => Number((step * 10 ** power).toPrecision(1))));
  }
  const first = ticks.findLastIndex((tick) => tick <= low), last = ticks.findIndex((tick) => tick >= high);
  return ticks.slice(Math.max(0, first), last + 1);
}

/** The time of a step of Wan 1.3B over the density of attention. */
export function stepPlot(results: Results): Plot {
  const at = (source: Source, precision: Precision) =>
    results.figures(source, precision).flatMap(({ id, density, value }) =>
      /^step\/1\.3b\/(full|veda)/.test(id) && density !== undefined ? [[density, value] as const] : []
    );
  const theirs = (what: string) =>
    results.torches("1.3b", what).flatMap(({ ms, density = 1 }) =>
      ms === undefined ? [] : [[density, 2 * ms / 1000] as const]
    );
  const series = [
    ...OURS.map(({ source, precision, ...rest }) => ({ ...rest, points: at(source, precision) })),
    { name: "PyTorch, bf16, flex", colour: COLOURS.torch, points: theirs("forward, flex") },
    { name: "PyTorch, bf16, dense", colour: COLOURS.torch, points: theirs("forward, compiled"), dashed: true },
  ].filter(({ points }) => points.length > 0);
  return {
    title: "A step of Wan 1.3B, 832×480, 81 frames",
    x: { label: "density: share of the pairs of tokens that are computed", ticks: [.03, .05, .1, .2, .5, 1] },
    y: { label: "seconds", ticks: ticksFor(series.flatMap(({ points }) => points.map(([, y]) => y))) },
    series,
  };
}

/** The time of attention over the number of tokens, dense and with a tenth of the tiles. */
export function tokensPlot(results: Results): Plot {
  const at = (source: Source, precision: Precision, kind: RegExp) =>
    results.figures(source, precision).flatMap(({ id, tokens, value }) =>
      kind.test(id) && tokens !== undefined ? [[tokens, value] as const] : []
    );
  const theirs = (what: string) =>
    results.torches("tokens", what).flatMap(({ ms, tokens }) =>
      ms === undefined || tokens === undefined ? [] : [[tokens, ms] as const]
    );
  const series = [
    ...OURS.flatMap(({ source, precision, name, colour }) => [
      { name: `${name}, dense`, colour, points: at(source, precision, /dense$/), dashed: true },
      { name: `${name}, Veda 0.1`, colour, points: at(source, precision, /veda 0\.1$/) },
    ]),
    { name: "PyTorch, bf16, dense", colour: COLOURS.torch, points: theirs("attention, SDPA default"), dashed: true },
    { name: "PyTorch, bf16, flex 0.1", colour: COLOURS.torch, points: theirs("attention, flex 0.1") },
  ].filter(({ points }) => points.length > 0);
  return {
    title: "Attention of 12 heads of 128",
    x: {
      label: "tokens (480p: 7.8 to 33 thousand; 720p: 76 to 245 thousand)",
      ticks: [7000, 10_000, 20_000, 50_000, 100_000, 250_000],
      show: (tick) => `${tick / 1000}K`,
    },
    y: { label: "milliseconds", ticks: ticksFor(series.flatMap(({ points }) => points.map(([, y]) => y)), [1]) },
    series,
  };
}
