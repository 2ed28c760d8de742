/**
 * How a benchmark's module runs as a program.
 *
 * @module
 */
import { TilereelError } from "../gpu/common/errors.ts";

/**
 * Runs it and ends the process. Errors that the user can correct are printed as one sentence, bugs with their trace.
 */
export async function runAsProgram(name: string, bench: () => Promise<void>): Promise<never> {
  try {
    await bench();
    Deno.exit(0);
  } catch (error) {
    if (!(error instanceof TilereelError)) throw error;
    console.error(`${name}: ${error.message}`);
    Deno.exit(1);
  }
}
