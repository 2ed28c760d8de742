/**
 * What a profile says in a few lines.
 *
 * @module
 */
import type { ProfiledDispatch } from "./profiler.ts";

/** Time of the dispatches of one kernel. */
export interface KernelTime {
  readonly kernel: string;
  readonly count: number;
  /** Nanoseconds, summed up. */
  readonly time: number;
}

/** Time in which no kernel ran, between dispatches of one kernel and those of another that came next. */
export interface Gaps {
  readonly before: string;
  readonly after: string;
  readonly count: number;
  /** Nanoseconds, summed up. */
  readonly time: number;
  /** Nanoseconds of the longest. */
  readonly longest: number;
}

/** A stretch of the profile. */
export interface Stretch {
  readonly name: string;
  /** Nanoseconds from the first dispatch's begin to the last one's end. */
  readonly span: number;
  /** Of these, nanoseconds in which a kernel ran. */
  readonly busy: number;
}

/**
 * The whole profile, and what has an outermost label of its own, in order. Where such a stretch has parts, as denoising
 * has steps, also what comes after the first of them: that one waits while kernels are compiled.
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

/** A stretch may come again, as for each of many clips: what lies between is not its own. */
function measureApart(dispatches: readonly ProfiledDispatch[]): Omit<Stretch, "name"> {
  return sum([...Map.groupBy(dispatches, ({ labels }) => labels[0]).values()].map(measure));
}

/** The time of each kernel, the longest first. */
export function kernelTimes(dispatches: readonly ProfiledDispatch[]): KernelTime[] {
  return [...Map.groupBy(dispatches, ({ kernel }) => kernel)]
    .map(([kernel, some]) => ({ kernel, count: some.length, time: busyOf(some) }))
    .sort((a, b) => b.time - a.time);
}

/** The gaps, by the kernels they lie between, those that sum up to most first. */
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
    time: some.reduce((total, { time }) => total + time, 0),
    longest: some.reduce((most, { time }) => Math.max(most, time), 0),
  })).sort((a, b) => b.time - a.time);
}

function measure(dispatches: readonly ProfiledDispatch[]): Omit<Stretch, "name"> {
  if (dispatches.length === 0) return { span: 0, busy: 0 };
  return { span: dispatches.at(-1)!.end - dispatches[0]!.begin, busy: busyOf(dispatches) };
}

function sum(parts: readonly Omit<Stretch, "name">[]): Omit<Stretch, "name"> {
  return {
    span: parts.reduce((total, { span }) => total + span, 0),
    busy: parts.reduce((total, { busy }) => total + busy, 0),
  };
}

function busyOf(dispatches: readonly ProfiledDispatch[]): number {
  return dispatches.reduce((total, { begin, end }) => total + (end - begin), 0);
}
