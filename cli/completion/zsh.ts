import type { DescribedCommand, DescribedOption, DescribedTable } from "./described_commands.ts";

/** The script of completion for zsh. */
export function zshCompletion({ words, commands }: DescribedTable): string {
  const described = (entries: readonly (readonly [string, string])[]) =>
    entries.map((entry) => quoted(entry.join(":"))).join(" ");
  return `#compdef tilereel
# zsh completion for tilereel: save it as _tilereel in a folder of $fpath, or source it after compinit

_tilereel() {
  local -a commands
  # "help" stands before the words of a command.
  local help=
  if [[ $words[2] == help && $CURRENT -gt 2 ]]; then
    help=1
    words=($words[1] \${words[3,-1]})
    ((CURRENT--))
  fi
  if ((CURRENT == 2)); then
    commands=(${described([...words.get("")!, ["help", "show the help of a command"]])})
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  ((CURRENT--))
  case $command in
${
    [...words].slice(1).map(([name, inner]) =>
      `    ${name})
      if ((CURRENT == 2)); then
        commands=(${described(inner)})
        _describe command commands
        return
      fi
      command="$command $words[2]"
      shift words
      ((CURRENT--))
      ;;`
    ).join("\n")
  }
  esac
  [[ -n $help ]] && return
  case $command in
${[...commands].map(([name, command]) => commandCase(name, command)).join("\n")}
  esac
}

if [[ $funcstack[1] == _tilereel ]]; then
  _tilereel "$@"
else
  compdef _tilereel tilereel
fi
`;
}

function commandCase(name: string, { options, positional, completion }: DescribedCommand): string {
  const specs = options.map(optionSpec);
  if (positional) specs.push(quoted(`*:${escaped(positional)}:${action({ completion })}`));
  return `    ${quoted(name)})
      _arguments ${specs.join(" \\\n        ")}
      ;;`;
}

/** As `_arguments` takes it: `'(-m --model)'{-m,--model=}'[Folder]:DIR:_files -/'`. */
function optionSpec({ long, short, help, value, completion, many }: DescribedOption): string {
  const rest = `[${escaped(help)}]` + (value === undefined ? "" : `:${escaped(value)}:${action({ completion })}`);
  const name = value === undefined ? long : `${long}=`;
  if (short === undefined) return quoted(`${many ? "*" : ""}${name}${rest}`);
  const before = many ? "\\*" : quoted(`(${short} ${long})`);
  return `${before}{${short},${name}}${quoted(rest)}`;
}

function action({ completion }: Pick<DescribedCommand, "completion">): string {
  if (completion === undefined) return " ";
  if (completion === "file") return "_files";
  if (completion === "folder") return "_files -/";
  return `(${completion.join(" ")})`;
}

/** What stands in a spec of `_arguments`. */
function escaped(text: string): string {
  return text.replace(/[[\]:\\]/g, "\\$&");
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
