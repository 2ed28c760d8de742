/** Variables of the linkers of Linux and macOS, which load other code into a program. */
const OF_LINKER = /^(?:LD|DYLD)_/;

/**
 * Takes variables such as LD_LIBRARY_PATH, which most machines with CUDA set, from the environment. Deno starts no program
 * with them in a thread that may start some programs and not all. The linker has read those of this process already, so
 * GPU drivers are still found by them; only ffmpeg does not see them.
 */
export function removeLinkerVariables(): void {
  for (const name of Object.keys(Deno.env.toObject())) if (OF_LINKER.test(name)) Deno.env.delete(name);
}
