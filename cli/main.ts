/**
 * The command line: `tilereel <command> [options]`.
 *
 * @module
 */
import config from "../deno.json" with { type: "json" };
import { TilereelError } from "../errors.ts";
import type { Command } from "./command.ts";
import { commandHelp, mainHelp } from "./help.ts";
import { didYouMean } from "./nearest.ts";
import { removeUnfinished } from "./output.ts";
import { parseCommand } from "./parse.ts";

/** Exit statuses. */
const USER_ERROR = 1;
/** As sysexits.h has it for an error in the program itself. */
const BUG = 70;

/** Commands are loaded when they are run, so that help is quick. */
const COMMANDS: Readonly<Record<string, { summary: string; load: () => Promise<{ command: Command }> }>> = {
  generate: { summary: "render videos from text", load: () => import("./commands/generate.ts") },
  info: {
    summary: "show GPU adapters, and what a model folder holds",
    load: () => import("./commands/info.ts"),
  },
  parity: { summary: "compare every part with reference tensors", load: () => import("./commands/parity.ts") },
};

const EXAMPLES = [
  { line: 'tilereel generate "a red circle moving right"', does: "Renders with the embedded demo model into out/." },
  {
    line: 'tilereel generate "a cat on a beach" --model Wan2.1-T2V-1.3B-Diffusers',
    does: "Renders with real weights.",
  },
  { line: "tilereel info", does: "Shows the GPU adapters of this machine." },
];

/** Runs a command line and gives its exit status. */
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
  if (name === "help") return await dispatch([rest[0]!, "--help"]);
  if (!Object.hasOwn(COMMANDS, name)) {
    const near = didYouMean(name.replace(/^-+/, ""), Object.keys(COMMANDS), (known) => `"tilereel ${known}"`);
    const what = name.startsWith("-") ? "option of tilereel" : "tilereel command";
    throw new TilereelError(`"${name}" is no ${what}${near || '; see "tilereel --help"'}`);
  }
  const { command } = await COMMANDS[name]!.load();
  const { values, positionals, help } = parseCommand(rest, command.options, name);
  if (help) {
    console.log(commandHelp(command));
    return 0;
  }
  if (positionals.length > command.maxPositionals) {
    throw new TilereelError(
      `unexpected argument ${JSON.stringify(positionals[command.maxPositionals])}: usage is ` +
        `tilereel ${name} ${command.positionals} [options]; put quotes around text that has spaces`,
    );
  }
  return await command.run(values, positionals);
}

function report(error: unknown): number {
  // An error, and another while cleaning up after it: the first is the cause.
  while (error instanceof SuppressedError) error = error.suppressed;
  const trace = Deno.env.get("TILEREEL_TRACE") === "1";
  if (error instanceof TilereelError) {
    console.error(trace ? error : `tilereel: ${error.message}`);
    return USER_ERROR;
  }
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  console.error(`tilereel: ${message}`);
  console.error("This is a bug in tilereel; please report it. Set TILEREEL_TRACE=1 to see where it comes from.");
  if (trace) console.error(error);
  return BUG;
}

/** Ends at once when told to from outside, with nothing half-written left. */
function exitOn(signal: Deno.Signal, status: number): void {
  Deno.addSignalListener(signal, () => {
    removeUnfinished();
    Deno.exit(status);
  });
}

if (import.meta.main) {
  exitOn("SIGINT", 130);
  if (Deno.build.os !== "windows") exitOn("SIGTERM", 143);
  Deno.exit(await main(Deno.args));
}
