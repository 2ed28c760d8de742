import { createHash } from "node:crypto";
import process from "node:process";

/** This process, as names of unfinished files say it. */
export interface Self {
  /** Names where the numbers of processes count: a start of the system, and in it a container. */
  readonly place: string;
  readonly pid: number;
  /** When it was started, in ticks since the system was. */
  readonly start: string;
  /** The name of the machine; empty where that may not be asked. */
  readonly host: string;
}

/** What is known of the processes of this machine. */
export interface Processes {
  self(): Self;
  /** Whether a process of this place that was started then still runs. What cannot be found out is taken to run. */
  isRunning(pid: number, start: string): boolean;
}

/** Asks the system. Linux tells most of it in /proc, which only a thread with all rights may read. */
export const SYSTEM: Processes = {
  self: () => ({ place: placeName(), pid: process.pid, start: startOf("self") ?? "0", host: hostName() }),
  isRunning: (pid, start) => isAlive(pid) && (startOf(pid) ?? start) === start,
};

let known: Processes = SYSTEM, own: Self | undefined;

/** Has another thread be asked, which has the rights to. */
export function askOfProcesses(processes: Processes): void {
  known = processes;
  own = undefined;
}

/** Names this process, for {@link isRunning}: `PLACE-PID-START`. */
export function processName(): string {
  const { place, pid, start } = self();
  return `${place}-${pid}-${start}`;
}

/** The name of this machine, in words. */
export function ownHost(): string {
  return self().host;
}

/** Whether the process of that name runs; undefined if that is one of another place, so that nobody can tell. */
export function isRunning(name: string): boolean | undefined {
  const [place, pid, start = ""] = name.split("-");
  if (place !== self().place) return undefined;
  return Number(pid) === self().pid && start === self().start || known.isRunning(Number(pid), start);
}

function self(): Self {
  return own ??= known.self();
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // It may be another user's, or this thread may have no right to ask.
    return (error as { readonly code?: string }).code !== "ESRCH";
  }
}

/** Undefined where the system does not say. */
function startOf(pid: number | "self"): string | undefined {
  // What comes before the last bracket is the program's name.
  return orNothing(() => Deno.readTextFileSync(`/proc/${pid}/stat`))?.replace(/^.*\)/s, "").trim().split(" ")[19];
}

function placeName(): string {
  const boot = orNothing(() => Deno.readTextFileSync("/proc/sys/kernel/random/boot_id"));
  const namespace = orNothing(() => Deno.readLinkSync("/proc/self/ns/pid"));
  const place = boot === undefined ? hostName() : `${boot}${namespace}`;
  // Where nothing may be asked, nobody knows this process, and its files are those of another machine.
  return createHash("sha256").update(place || crypto.randomUUID()).digest("hex").slice(0, 8);
}

function hostName(): string {
  return orNothing(() => Deno.hostname()) ?? "";
}

function orNothing<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
