import { ENVIRONMENT, type EnvironmentVariable } from "../../gpu/common/environment.ts";
import { familyNames } from "../../model/families.ts";
import type { Command, CommandGroup, CommandTable, Examples } from "./command.ts";
import type { Option } from "./options.ts";

const WIDTH = 100;

/** `tilereel info [MODEL|FILE|CLIP] [options]` */
export function usage({ name, positional }: Command): string {
  return [name, positional, "[options]"].filter(Boolean).join(" ");
}

/** The help of one command: usage, options in groups with defaults, notes, examples. */
export function commandHelp(command: Command): string {
  const { description, options, notes, examples } = command;
  const groups = Map.groupBy(Object.entries(options), ([, option]) => option.group);
  const variables = VARIABLES.filter(([, { option }]) => option !== undefined && Object.hasOwn(options, option));
  return [
    `Usage: ${usage(command)}`,
    ...description === undefined ? [] : [wrap(description, 0)],
    ...[...groups].map(([group, entries]) =>
      [`${group}:`, ...entries.map(([name, option]) => optionHelp(name, option))].join("\n")
    ),
    ...variables.length === 0 ? [] : [environmentHelp(variables)],
    ...notes === undefined ? [] : [wrap(notes, 0)],
    ...examples === undefined ? [] : [examplesHelp(examples)],
  ].join("\n\n");
}

/** The help of a group of commands. */
export function groupHelp(name: string, { description, commands, examples }: CommandGroup): string {
  return [
    `Usage: tilereel ${name} <${Object.keys(commands).join("|")}> [options]`,
    wrap(description, 0),
    ["Commands:", ...commandLines(commands)].join("\n"),
    `Each has its own help: "tilereel ${name} ${Object.keys(commands)[0]} --help".`,
    examplesHelp(examples),
  ].join("\n\n");
}

/** The help of tilereel itself. */
export function mainHelp(commands: CommandTable, examples: Examples): string {
  return [
    `tilereel makes short videos from text and pictures with checkpoints of ${familyNames()}, on WebGPU.`,
    "Usage: tilereel <command> [options]",
    ["Commands:", ...commandLines(commands)].join("\n"),
    'Every command has its own help: "tilereel generate --help". "tilereel --version" prints the version.',
    environmentHelp(VARIABLES),
    examplesHelp(examples),
  ].join("\n\n");
}

function commandLines(commands: CommandTable): string[] {
  const width = Math.max(...Object.keys(commands).map((name) => name.length));
  return Object.entries(commands).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`);
}

const VARIABLES: readonly (readonly [string, EnvironmentVariable])[] = Object.entries(ENVIRONMENT);

function environmentHelp(variables: typeof VARIABLES): string {
  return ["Environment variables:", ...variables.map(([name, { help }]) => entry(`  ${name}`, help))].join("\n");
}

function optionHelp(name: string, option: Option<unknown>): string {
  const short = option.short ? `-${option.short}, ` : "";
  const head = `  ${short}--${name}${option.alone ? ` [${option.value}]` : option.value ? ` ${option.value}` : ""}`;
  const text = option.help + (option.default === undefined ? "" : ` (default: ${option.default})`);
  return entry(head, text);
}

/** A name, and its description in the next column. */
function entry(head: string, text: string): string {
  const indent = 26;
  const body = wrap(text, indent);
  return head.length < indent - 1 ? head + body.slice(head.length) : `${head}\n${body}`;
}

function examplesHelp(examples: Examples): string {
  return ["Examples:", ...Object.entries(examples).map(([line, does]) => `  ${line}\n      ${does}`)].join("\n");
}

/** Breaks text into indented lines between words; its own line breaks stay. */
function wrap(text: string, indent: number): string {
  const pad = " ".repeat(indent);
  const lines: string[] = [];
  for (const paragraph of text.split("\n")) {
    let line = "";
    for (const word of paragraph.split(" ")) {
      if (line && pad.length + line.length + 1 + word.length > WIDTH) {
        lines.push(pad + line);
        line = word;
      } else line = line ? `${line} ${word}` : word;
    }
    lines.push(pad + line);
  }
  return lines.join("\n");
}
