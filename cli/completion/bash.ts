import type { DescribedCommand, DescribedTable } from "./described_commands.ts";

/** The script of completion for bash, 3.2 (macOS) and later. */
export function bashCompletion({ words, commands }: DescribedTable): string {
  const wordsOf = (group: string) => words.get(group)!.map(([word]) => word).join(" ");
  return `# bash completion for tilereel: source it, or save it as ~/.local/share/bash-completion/completions/tilereel

_tilereel_words() {
  COMPREPLY=($(compgen -W "$1" -- "$2"))
}

# The names of files (-f) or folders (-d), which may have spaces.
_tilereel_files() {
  local name
  while IFS= read -r name; do COMPREPLY+=("$name"); done < <(compgen "$1" -- "$2")
  compopt -o filenames 2>/dev/null
}

_tilereel() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} command=\${COMP_WORDS[1]} at=$COMP_CWORD
  COMPREPLY=()
  # bash takes --name=value apart.
  if [[ $cur == = ]]; then
    cur=
  elif [[ $prev == = ]]; then
    prev=\${COMP_WORDS[COMP_CWORD - 2]}
  fi
  # "help" stands before the words of a command.
  if [[ $command == help && $at -gt 1 ]]; then
    command=\${COMP_WORDS[2]}
    at=$((at - 1))
  fi
  if ((at == 1)); then
    _tilereel_words "${wordsOf("")} help --help --version" "$cur"
    return
  fi
  case $command in
${
    [...words.keys()].slice(1).map((name) =>
      `    ${name})
      if ((at == 2)); then
        _tilereel_words "${wordsOf(name)} --help" "$cur"
        return
      fi
      command="$command \${COMP_WORDS[COMP_CWORD - at + 2]}"
      ;;`
    ).join("\n")
  }
  esac
  [[ \${COMP_WORDS[1]} == help ]] && return
  case $command in
${[...commands].map(([name, command]) => commandCase(name, command)).join("\n")}
  esac
}

complete -F _tilereel tilereel
`;
}

function commandCase(name: string, { options, completion }: DescribedCommand): string {
  const byAction = Map.groupBy(options.filter(({ value }) => value !== undefined), (option) => action(option));
  const values = [...byAction].map(([action, options]) => {
    const names = options.flatMap(({ long, short }) => [long, ...short ? [short] : []]).join(" | ");
    return `        ${names}) ${action ? `${action}; ` : ""}return ;;`;
  });
  const names = options.map(({ long }) => long).join(" ");
  return `    ${/ /.test(name) ? `"${name}"` : name})
      case $prev in
${values.join("\n")}
      esac
      if [[ $cur == -* ]]; then
        _tilereel_words "${names}" "$cur"
${completion ? `      else\n        ${action({ completion })}\n` : ""}      fi
      ;;`;
}

function action({ completion }: Pick<DescribedCommand, "completion">): string {
  if (completion === undefined) return "";
  if (completion === "file") return '_tilereel_files -f "$cur"';
  if (completion === "folder") return '_tilereel_files -d "$cur"';
  return `_tilereel_words "${completion.join(" ")}" "$cur"`;
}
