import type { Label, ProfiledDispatch } from "./profiler.ts";

const LABELS = 1, KERNELS = 2;

/**
 * A profile in Chrome's trace format, as JSON, which chrome://tracing and https://ui.perfetto.dev show. One row has the
 * labels, another one the kernels, so that gaps are visible.
 *
 * @param title what was profiled, and on which device
 */
export function traceOf(dispatches: readonly ProfiledDispatch[], title: string): string {
  const start = dispatches[0]?.begin ?? 0;
  const event = (name: string, tid: number, begin: number, end: number) => ({
    ...{ name, ph: "X", pid: 1, tid },
    ts: microseconds(begin - start),
    dur: microseconds(end - begin),
  });
  const about = (what: string, tid: number, name: string) => ({ name: what, ph: "M", pid: 1, tid, args: { name } });
  const events = [
    about("process_name", LABELS, title),
    about("thread_name", LABELS, "model"),
    about("thread_name", KERNELS, "kernels"),
    ...[...spansOf(dispatches)].map(([{ name }, { begin, end }]) => event(name, LABELS, begin, end)),
    ...dispatches.map(({ kernel, labels, begin, end }) => ({
      ...event(kernel, KERNELS, begin, end),
      args: { in: labels.map(({ name }) => name).join(" / ") },
    })),
  ];
  return `{"displayTimeUnit": "ms", "traceEvents": [\n${
    events.map((event) => JSON.stringify(event)).join(",\n")
  }\n]}\n`;
}

/** The time of each label. Outer labels come before inner ones. */
function spansOf(dispatches: readonly ProfiledDispatch[]): Map<Label, { begin: number; end: number }> {
  const spans = new Map<Label, { begin: number; end: number }>();
  for (const { labels, begin, end } of dispatches) {
    for (const label of labels) {
      const span = spans.get(label);
      if (span) span.end = end;
      else spans.set(label, { begin, end });
    }
  }
  return spans;
}

/** Rounds to whole nanoseconds. */
function microseconds(nanoseconds: number): number {
  return Math.round(nanoseconds) / 1000;
}
