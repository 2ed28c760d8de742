import config from "../deno.json" with { type: "json" };
import { variable } from "../gpu/common/environment.ts";
import { printable, quoted, TilereelError } from "../gpu/common/errors.ts";
import { isNotAllowed, isNotFound, systemReason } from "../model/files/file_error.ts";
import { COMMANDS } from "./command_table.ts";
import { groupHelp, mainHelp } from "../tools/program/help.ts";
import { didYouMean } from "../gpu/common/nearest.ts";
import { runCommand } from "../tools/program/run_command.ts";

/** Exit statuses. */
const USER_ERROR = 1;
/** As sysexits.h has it for an error in the program itself. */
const BUG = 70;

const EXAMPLES = {
  'tilereel generate "a red circle moving right"': "Renders with the embedded demo model into out/.",
  'tilereel generate "a cat on a beach" --model Wan2.1-T2V-1.3B-Diffusers': "Renders with real weights.",
  "tilereel info": "Shows the GPU adapters of this machine.",
};

/** Runs a command line, `tilereel <command> [options]`, and gives its exit status. */
export async function main(args: readonly string[]): Promise<number> {
  try {
    return await dispatch(args);
  } catch (error) {
    return report(error);
  }
}

async function dispatch([name, ...rest]: readonly string[]): Promise<number> {
  if (name === undefined || name === "--help" || name === "-h" || name === "help" && rest.length === 0) {
    console.log(mainHelp(COMMANDS, EXAMPLES));
    return 0;
  }
  if (name === "--version" || name === "-V") {
    console.log(`tilereel ${config.version}`);
    return 0;
  }
  if (name === "help") return await dispatch([...rest, "--help"]);
  const entry = find(COMMANDS, name, "tilereel", name.startsWith("-") ? "an option of tilereel" : "a tilereel command");
  if (!("commands" in entry)) return await runCommand((await entry.load()).command, rest);
  const [next, ...others] = rest, before = `tilereel ${name}`;
  if (next === undefined || next === "--help" || next === "-h") {
    console.log(groupHelp(name, entry));
    return 0;
  }
  const what = `${next.startsWith("-") ? "an option" : "a command"} of "${before}"`;
  return await runCommand((await find(entry.commands, next, before, what).load()).command, others);
}

/**
 * @param before what stands before the name on the command line
 * @param what what the name should be
 */
function find<T>(commands: Readonly<Record<string, T>>, name: string, before: string, what: string): T {
  if (Object.hasOwn(commands, name)) return commands[name]!;
  const near = didYouMean(name.replace(/^-+/, ""), Object.keys(commands), (known) => `"${before} ${known}"`);
  throw new TilereelError(`${quoted(name)} is not ${what}${near || `; see "${before} --help"`}`);
}

function report(error: unknown): number {
  // If cleaning up after an error failed as well, the first error is the cause.
  while (error instanceof SuppressedError) error = error.suppressed;
  const trace = variable("TILEREEL_TRACE") === "1";
  if (error instanceof TilereelError) {
    console.error(trace ? error : `tilereel: ${error.message}`);
    return USER_ERROR;
  }
  if (isNotAllowed(error) && !trace) {
    const [what] = error.message.replace(/^Requires /, "").split(", run again");
    console.error(
      `tilereel: this command lacks ${printable(what!)}; docs/reliability.md says what each command may do`,
    );
    return USER_ERROR;
  }
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const reason = systemReason(error);
  // A missing file should have been checked for, so it is a bug.
  if (reason !== undefined && !isNotFound(error)) {
    // For example, the disk behind the standard output is full.
    console.error(trace ? error : `tilereel: ${reason} (${(error as Error).message})`);
    return USER_ERROR;
  }
  console.error(`tilereel: ${message}`);
  console.error("This is a bug in tilereel; please report it. Set TILEREEL_TRACE=1 to see where it comes from.");
  if (trace) console.error(error);
  return BUG;
}
