/**
 * Programs beside the command line: benchmarks and tasks.
 *
 * @module
 */
import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { programHelp } from "./help.ts";
import type { OptionTable, OptionValues } from "./options.ts";
import { parseCommand } from "./parse.ts";

/** A program of its own. */
export interface Program<T extends OptionTable> {
  /** How it is called, as "deno task bench". */
  readonly command: string;
  readonly options: T;
  /** Its positional arguments, as the usage line shows them. Default: it takes none. */
  readonly positionals?: string;
  /** More for the help. */
  readonly notes?: string;
  readonly run: (values: OptionValues<T>, positionals: readonly string[]) => Promise<void>;
}

/**
 * Runs a program and ends the process. Errors that the user can correct are printed as one sentence, bugs with their
 * trace.
 */
export async function runAsProgram<T extends OptionTable>(program: Program<T>): Promise<never> {
  const { command, options, run } = program;
  try {
    const { values, positionals, help } = parseCommand(Deno.args, options, command);
    if (!help && positionals.length > 0 && program.positionals === undefined) {
      throw new TilereelError(`unexpected argument ${quoted(positionals[0]!)}; see "${command} --help"`);
    }
    if (help) console.log(programHelp(program));
    else await run(values, positionals);
    Deno.exit(0);
  } catch (error) {
    if (!(error instanceof TilereelError)) throw error;
    console.error(`${command}: ${error.message}`);
    Deno.exit(1);
  }
}
