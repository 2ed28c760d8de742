import { dirname, join, resolve } from "node:path";

/** Where a file is written: into its folder, or into the one that its folder is made in. Links are followed. */
export function foldersOf(path: string): string[] {
  const target = resolve(path), folder = dirname(target);
  let there = folder;
  while (dirname(there) !== there && real(there) === undefined) there = dirname(there);
  const linked = real(target);
  return [...new Set([folder, there, real(there) ?? there, ...linked === undefined ? [] : [linked, dirname(linked)]])];
}

/** Where files are written into a folder, which is made if need be. */
export function foldersFor(folder: string): string[] {
  return foldersOf(join(folder, "file"));
}

/** A file, and what it is a link to, or lies in a link to. */
export function withTarget(path: string): string[] {
  return [...new Set([path, real(path) ?? path])];
}

function real(path: string): string | undefined {
  try {
    return Deno.realPathSync(path);
  } catch {
    return undefined;
  }
}
