import type { ProfiledDispatch } from "./profiler.ts";

/** Idle time between dispatches of one kernel and the next dispatches of another. */
export interface Gaps {
  readonly before: string;
  readonly after: string;
  readonly count: number;
  /** The sum in nanoseconds. */
  readonly time: number;
  /** The longest gap in nanoseconds. */
  readonly longest: number;
}

export interface Stretch {
  readonly name: string;
  /** Nanoseconds from the start of the first dispatch to the end of the last. */
  readonly span: number;
  /** The nanoseconds of these in which a kernel ran. */
  readonly busy: number;
}

/**
 * Splits a profile into the whole, and the parts with an outermost label, in order. Where such a part has parts of its
 * own, as denoising has steps, all but the first of these are also listed together: the first one waits while kernels
 * are compiled.
 */
export function stretchesOf(dispatches: readonly ProfiledDispatch[]): Stretch[] {
  const named = Map.groupBy(dispatches, ({ labels }) => labels[0]?.name);
  named.delete(undefined);
  return [
    { name: "all", ...measure(dispatches) },
    ...[...named].flatMap(([name, some]) => {
      const first = some.find(({ labels }) => labels.length > 1)?.labels[1];
      const rest = some.slice(some.findLastIndex(({ labels }) => labels[1] === first) + 1);
      const parts = first !== undefined && rest.some(({ labels }) => labels.length > 1);
      return [
        { name: name!, ...measureApart(some) },
        ...parts ? [{ name: `${name}, after ${first.name}`, ...measureApart(rest) }] : [],
      ];
    }),
  ];
}

/** A label may occur several times, for example once per clip. The time between does not belong to it. */
function measureApart(dispatches: readonly ProfiledDispatch[]): Omit<Stretch, "name"> {
  const parts = [...Map.groupBy(dispatches, ({ labels }) => labels[0]).values()].map(measure);
  return { span: sum(parts.map(({ span }) => span)), busy: sum(parts.map(({ busy }) => busy)) };
}

/** The number of dispatches of each kernel and the sum of their nanoseconds, longest first. */
export function kernelTimes(dispatches: readonly ProfiledDispatch[]) {
  return [...Map.groupBy(dispatches, ({ kernel }) => kernel)]
    .map(([kernel, some]) => ({ kernel, count: some.length, time: busyOf(some) }))
    .sort((a, b) => b.time - a.time);
}

/** The gaps by the kernels around them, largest sum first. */
export function gapsBetween(dispatches: readonly ProfiledDispatch[]): Gaps[] {
  const gaps = dispatches.slice(1).map(({ kernel, begin }, i) => ({
    before: dispatches[i]!.kernel,
    after: kernel,
    time: begin - dispatches[i]!.end,
  }));
  return [...Map.groupBy(gaps, ({ before, after }) => `${before} ${after}`).values()].map((some) => ({
    before: some[0]!.before,
    after: some[0]!.after,
    count: some.length,
    time: sum(some.map(({ time }) => time)),
    longest: some.reduce((most, { time }) => Math.max(most, time), 0),
  })).sort((a, b) => b.time - a.time);
}

function measure(dispatches: readonly ProfiledDispatch[]): Omit<Stretch, "name"> {
  if (dispatches.length === 0) return { span: 0, busy: 0 };
  return { span: dispatches.at(-1)!.end - dispatches[0]!.begin, busy: busyOf(dispatches) };
}

function busyOf(dispatches: readonly ProfiledDispatch[]): number {
  return sum(dispatches.map(({ begin, end }) => end - begin));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
