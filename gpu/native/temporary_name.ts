/**
 * Names of unfinished files, which say who writes them: `.NAME.PLACE-PID-START.RANDOM.part`. So a later run can remove
 * what a killed one left behind, and leaves alone what a living one is writing.
 *
 * @module
 */
import { createHash } from "node:crypto";
import process from "node:process";

const NAME = /^\..*\.([0-9a-f]{8})-(\d+)-(\d+)\.[0-9a-f]{8}\.part$/s;
/** The most characters of the target's name in it: names may have 255 bytes. */
const LONGEST_STEM = 50;
/** Milliseconds after which an unfinished file of another machine is one of a dead process: writing takes minutes. */
const ABANDONED = 24 * 3600 * 1000;

let own: { readonly place: string; readonly pid: number; readonly start: string } | undefined;

/** This process: where its number counts, its number, and when it was started. */
function self() {
  return own ??= { place: placeName(), pid: process.pid, start: startOf("self") ?? "0" };
}

/** A new name for the unfinished file or folder that will be called `name`. */
export function temporaryName(name: string): string {
  const { place, pid, start } = self();
  return `.${name.slice(0, LONGEST_STEM).toWellFormed()}.${place}-${pid}-${start}.${
    crypto.randomUUID().slice(0, 8)
  }.part`;
}

/**
 * Whether a file's name is that of an unfinished file whose writer is dead.
 *
 * @param age milliseconds since it was last written to; only asked if its writer ran on another machine
 */
export function isAbandoned(name: string, age: () => number): boolean {
  const [, place, pid, start] = NAME.exec(name) ?? [];
  if (place === undefined) return false;
  if (place !== self().place) return age() > ABANDONED;
  if (Number(pid) === self().pid && start === self().start) return false;
  return !isAlive(Number(pid)) || (startOf(pid!) ?? start) !== start;
}

/** Whether a file's name is that of an unfinished file. */
export function isTemporary(name: string): boolean {
  return NAME.test(name);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // It may be another user's.
    return (error as { readonly code?: string }).code === "EPERM";
  }
}

/** When a process was started, in ticks since the system was; undefined where the system does not say. */
function startOf(pid: string): string | undefined {
  // What comes before the last bracket is the program's name.
  return fileText(`/proc/${pid}/stat`)?.replace(/^.*\)/s, "").trim().split(" ")[19];
}

/** Names where the numbers of processes count: a start of the system, and in it a container. */
function placeName(): string {
  const boot = fileText("/proc/sys/kernel/random/boot_id");
  return createHash("sha256").update(boot === undefined ? Deno.hostname() : `${boot}${linkTarget("/proc/self/ns/pid")}`)
    .digest("hex").slice(0, 8);
}

function fileText(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return undefined;
  }
}

function linkTarget(path: string): string | undefined {
  try {
    return Deno.readLinkSync(path);
  } catch {
    return undefined;
  }
}
