/**
 * All commands with their options, as completion needs them.
 *
 * @module
 */
import type { Command, CommandTable } from "../../tools/program/command.ts";
import type { Completion } from "../../tools/program/options.ts";

/** One option. */
export interface DescribedOption {
  /** As typed: `--size`. */
  readonly long: string;
  /** As typed: `-m`. */
  readonly short?: string;
  readonly help: string;
  /** What the value is called, as `DIR`; none for a flag. */
  readonly value?: string;
  /** What the value can be, where that can be completed. */
  readonly completion?: Completion;
  readonly many: boolean;
}

/** One command. */
export interface DescribedCommand {
  readonly summary: string;
  readonly options: readonly DescribedOption[];
  /** What stands beside options, as `PROMPT`; empty where nothing does. */
  readonly positional: string;
  readonly completion?: Completion;
}

/** The words after `tilereel`: each names a command, or a group of them. */
export type DescribedTable = ReadonlyMap<string, DescribedCommand | DescribedGroup>;

/** A command that only says what the next word is. */
export interface DescribedGroup {
  readonly summary: string;
  readonly commands: ReadonlyMap<string, DescribedCommand>;
}

/** Loads every command of a table. */
export async function describeCommands(table: CommandTable): Promise<DescribedTable> {
  const described = new Map<string, DescribedCommand | DescribedGroup>();
  for (const [name, { summary, load }] of Object.entries(table)) {
    const loaded = await load();
    if ("command" in loaded) {
      described.set(name, describeCommand(summary, loaded.command));
      continue;
    }
    const commands = new Map<string, DescribedCommand>();
    for (const [inner, entry] of Object.entries(loaded.group.commands)) {
      const { command } = await entry.load() as { command: Command };
      commands.set(inner, describeCommand(entry.summary, command));
    }
    described.set(name, { summary, commands });
  }
  return described;
}

/** Every command by the words that name it: `["train", "router"]`. */
export function allCommands(table: DescribedTable): [readonly string[], DescribedCommand][] {
  return [...table].flatMap(([name, entry]) =>
    "commands" in entry
      ? [...entry.commands].map(([inner, command]): [string[], DescribedCommand] => [[name, inner], command])
      : [[[name], entry] as [string[], DescribedCommand]]
  );
}

function describeCommand(summary: string, { options, positional = "", completion }: Command): DescribedCommand {
  return {
    summary,
    positional: positional.replace(/[[\]]/g, ""),
    ...completion && { completion },
    options: [
      ...Object.entries(options).map(([name, { short, help, value, choices, completion = choices, many }]) => ({
        long: `--${name}`,
        ...short !== undefined && { short: `-${short}` },
        help: firstSentence(help),
        ...value !== undefined && { value },
        ...completion && { completion },
        many: many ?? false,
      })),
      { long: "--help", short: "-h", help: "Show the help of this command.", many: false },
    ],
  };
}

/** Enough for a list of options. */
function firstSentence(help: string): string {
  return help.split(/(?<=[^.]\.) |: | \(/)[0]!.replace(/\.$/, "");
}
