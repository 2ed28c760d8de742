import type { DescribedCommand, DescribedOption, DescribedTable } from "./described_commands.ts";

/** The script of completion for fish. */
export function fishCompletion({ words, commands }: DescribedTable): string {
  const lines = [...words].flatMap(([group, entries]) =>
    entries.flatMap(([word, summary]) => [
      wordLine(group, word, summary),
      wordLine(`help ${group}`, word, summary),
    ])
  );
  return `# fish completion for tilereel: save it as ~/.config/fish/completions/tilereel.fish

# Whether these are all words so far.
function __tilereel_at
    set -l words (commandline -opc)
    set -e words[1]
    test "$words" = "$argv"
end

# Whether these are the first words.
function __tilereel_in
    set -l words (commandline -opc)
    set -e words[1]
    set -l count (count $argv)
    test "$words[1..$count]" = "$argv"
end

complete -c tilereel -f
${lines.join("\n")}
${wordLine("", "help", "show the help of a command")}
${[...commands].flatMap(([name, command]) => commandLines(name, command)).join("\n")}
`;
}

function wordLine(before: string, word: string, summary: string): string {
  return `complete -c tilereel -n ${quoted(`__tilereel_at ${before}`.trim())} -a ${word} -d ${quoted(summary)}`;
}

function commandLines(name: string, { options, completion }: DescribedCommand): string[] {
  const start = `complete -c tilereel -n ${quoted(`__tilereel_in ${name}`)}`;
  return [
    ...options.map((option) => `${start} ${optionArguments(option)} -d ${quoted(option.help)}`),
    ...completion ? [`${start} ${valueArguments(completion, "")}`] : [],
  ];
}

function optionArguments({ long, short, value, completion }: DescribedOption): string {
  const names = `-l ${long.slice(2)}${short ? ` -s ${short.slice(1)}` : ""}`;
  return value === undefined ? names : `${names} ${valueArguments(completion, "-x ")}`.trimEnd();
}

/** @param only what says that nothing but the value stands there, and no file */
function valueArguments(completion: DescribedCommand["completion"] | undefined, only: string): string {
  if (completion === undefined) return only;
  if (completion === "file") return only ? "-r -F" : "-F";
  if (completion === "folder") return `${only}-a '(__fish_complete_directories)'`;
  return `${only}-a ${quoted(completion.join(" "))}`;
}

function quoted(text: string): string {
  return `'${text.replace(/['\\]/g, "\\$&")}'`;
}
