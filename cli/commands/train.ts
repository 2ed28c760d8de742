/**
 * `tilereel train`: the group of commands that train.
 *
 * @module
 */
import type { CommandGroup } from "../../tools/program/command.ts";

/** The command group `tilereel train`. */
export const group: CommandGroup = {
  name: "train",
  description: "Trains what a model needs for sparse attention. The model itself does not change.",
  commands: {
    router: {
      summary: "VORTA: which heads need full attention, and when",
      load: () => import("./train_router.ts"),
    },
    tiles: {
      summary: "Veda: which tiles of a clip matter to which",
      load: () => import("./train_tiles.ts"),
    },
  },
  examples: {
    "tilereel train router --prompts prompts.txt": "Trains a router for the embedded demo model.",
    "tilereel train tiles --prompts prompts.txt": "Trains scores of tiles for it.",
  },
};
