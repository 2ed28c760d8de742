/**
 * `tilereel search`: the group of commands that search.
 *
 * @module
 */
import type { CommandGroup } from "../../tools/program/command.ts";

/** The command group `tilereel search`. */
export const group: CommandGroup = {
  name: "search",
  description: "Searches for settings that suit a model.",
  commands: {
    tiles: {
      summary: "Veda: the shape of tile that suits each head",
      load: () => import("./search_tiles.ts"),
    },
  },
  examples: {
    "tilereel search tiles --prompts prompts.txt": "Finds tile shapes for the embedded demo model.",
  },
};
