import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { type Command, defineCommand } from "./command.ts";
import { commandHelp, usage } from "./help.ts";
import type { OptionTable } from "./options.ts";
import { parseCommand } from "./parse.ts";

/**
 * Runs a command, or prints its help.
 *
 * @returns the exit status
 * @throws {TilereelError} for arguments that it does not take, and as it does
 */
export async function runCommand(command: Command, args: readonly string[]): Promise<number> {
  const { values, positionals, help } = parseCommand(args, command.options, command.name);
  if (help) {
    console.log(commandHelp(command));
    return 0;
  }
  const { positional } = command,
    most = positional === undefined ? 0 : positional.includes("...") ? Infinity : positional.split(" ").length;
  if (positionals.length > most) {
    throw new TilereelError(
      `unexpected argument ${quoted(positionals[most]!)}: the usage is ${usage(command)}; ` +
        `put quotes around text with spaces`,
    );
  }
  return await command.run(values, positionals) ?? 0;
}

/** Runs a program and ends the process. Errors that users can correct are printed as a sentence, bugs with a trace. */
export async function runAsProgram<T extends OptionTable>(program: Command<T>): Promise<never> {
  try {
    Deno.exit(await runCommand(defineCommand(program), Deno.args));
  } catch (error) {
    if (!(error instanceof TilereelError)) throw error;
    console.error(`${program.name}: ${error.message}`);
    Deno.exit(1);
  }
}
