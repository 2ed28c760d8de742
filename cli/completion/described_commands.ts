import type { Command, CommandTable } from "../../tools/program/command.ts";
import type { Completion, Option } from "../../tools/program/options.ts";

/** One option. `value` is what its value is called, as `DIR`; a flag has none. */
export interface DescribedOption extends Pick<Option<unknown>, "help" | "value" | "completion" | "many"> {
  /** As typed: `--size`. */
  readonly long: string;
  /** As typed: `-m`. */
  readonly short?: string | undefined;
}

/** One command. */
export interface DescribedCommand {
  readonly options: readonly DescribedOption[];
  /** What stands beside options, as `PROMPT`; empty where nothing does. */
  readonly positional: string;
  readonly completion?: Completion | undefined;
}

/** All commands with their options, as completion needs them. */
export interface DescribedTable {
  /** The words, with their summaries, that can follow `tilereel` (under "") and each of its groups of commands. */
  readonly words: ReadonlyMap<string, readonly (readonly [word: string, summary: string])[]>;
  /** By the words that name them: `train router`. */
  readonly commands: ReadonlyMap<string, DescribedCommand>;
}

/** Loads every command of a table. */
export async function describeCommands(table: CommandTable): Promise<DescribedTable> {
  const words = new Map<string, [string, string][]>(), commands = new Map<string, DescribedCommand>();
  const describe = async (group: string, table: CommandTable) => {
    words.set(group, Object.entries(table).map(([name, { summary }]) => [name, summary]));
    for (const [name, entry] of Object.entries(table)) {
      const all = `${group} ${name}`.trim();
      if ("commands" in entry) await describe(all, entry.commands);
      else commands.set(all, describeCommand((await entry.load()).command));
    }
  };
  await describe("", table);
  return { words, commands };
}

function describeCommand({ options, positional = "", completion }: Command): DescribedCommand {
  return {
    positional: positional.replace(/[[\]]/g, ""),
    completion,
    options: [
      ...Object.entries(options).map(([name, option]): DescribedOption => ({
        completion: option.choices,
        ...option,
        long: `--${name}`,
        short: option.short && `-${option.short}`,
        // Enough for a list of options.
        help: option.help.split(/(?<=[^.]\.) |: | \(/)[0]!.replace(/\.$/, ""),
      })),
      { long: "--help", short: "-h", help: "Show the help of this command." },
    ],
  };
}
