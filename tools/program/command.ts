import type { Completion, OptionTable, OptionValues } from "./options.ts";

/** Descriptions of example command lines, one sentence each. */
export type Examples = Readonly<Record<string, string>>;

/** A command of the command line, or a program beside it: what help is written from, and what it does. */
export interface Command<T extends OptionTable = OptionTable> {
  /** How it is called: "tilereel train router", or "deno task bench". */
  readonly name: string;
  /** A sentence or more under the usage line. */
  readonly description?: string;
  /** The positional argument as the usage line shows it: `[DIR]`, `IN OUT` for two, or `FILE...` for several. Default: it takes none. */
  readonly positional?: string;
  /** How the positional argument can be completed, if at all. */
  readonly completion?: Completion;
  readonly options: T;
  readonly examples?: Examples;
  /** More to know, after the options. */
  readonly notes?: string;
  /** Runs it and gives the exit status; nothing stands for 0. User errors are thrown as `TilereelError`. */
  readonly run: (values: OptionValues<T>, positionals: readonly string[]) => Promise<number | void>;
}

/** Where a command is found. */
export interface CommandEntry {
  /** A few words for the list of commands. */
  readonly summary: string;
  /** Commands are loaded when they are run, so that help is quick. */
  readonly load: () => Promise<{ readonly command: Command }>;
}

/** Commands that have a word before their own. */
export interface CommandGroup {
  readonly summary: string;
  readonly description: string;
  readonly commands: Readonly<Record<string, CommandEntry>>;
  readonly examples: Examples;
}

/** Commands and groups by the word that names them. */
export type CommandTable = Readonly<Record<string, CommandEntry | CommandGroup>>;

/** Ties the types of a command's table and its `run` together. */
export function defineCommand<T extends OptionTable>(command: Command<T>): Command {
  // A table's values are only ever made by parsing with that same table (see parse.ts), so forgetting T is safe.
  return command as unknown as Command;
}
