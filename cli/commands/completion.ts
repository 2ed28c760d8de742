import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { COMMANDS } from "../command_table.ts";
import { bashCompletion } from "../completion/bash.ts";
import { describeCommands, type DescribedTable } from "../completion/described_commands.ts";
import { fishCompletion } from "../completion/fish.ts";
import { zshCompletion } from "../completion/zsh.ts";

const SHELLS: Readonly<Record<string, (table: DescribedTable) => string>> = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
};

/** `tilereel completion`: prints scripts that complete commands, options and their values in a shell. */
export const command = defineCommand({
  name: "tilereel completion",
  description: "Prints a script that completes commands, options and their values in a shell.",
  positional: Object.keys(SHELLS).join("|"),
  completion: Object.keys(SHELLS),
  options: {},
  notes: "It completes what is called tilereel: the binary, or an alias for the checkout's task:\n" +
    "  alias tilereel='deno task --quiet --config ~/tilereel/deno.json tilereel'\n" +
    "(zsh completes an alias after setopt complete_aliases.) Run this command again after an update.",
  examples: {
    "echo 'source <(tilereel completion bash)' >> ~/.bashrc": "bash: in every new shell.",
    "tilereel completion bash > ~/.local/share/bash-completion/completions/tilereel":
      "bash with the package bash-completion: loaded when it is needed.",
    'tilereel completion zsh > "${fpath[1]}/_tilereel"': "zsh: after compinit, in a new shell.",
    "tilereel completion fish > ~/.config/fish/completions/tilereel.fish": "fish.",
  },
  run: async (_, [shell]) => {
    const write = shell === undefined || !Object.hasOwn(SHELLS, shell) ? undefined : SHELLS[shell];
    if (!write) {
      throw new TilereelError(
        `${shell === undefined ? "no shell was named" : `${quoted(shell)} is not a supported shell`}: ` +
          `write tilereel completion ${Object.keys(SHELLS).join("|")}`,
      );
    }
    console.log(write(await describeCommands(COMMANDS)).trimEnd());
    return 0;
  },
});
