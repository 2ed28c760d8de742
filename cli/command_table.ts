/**
 * The commands of the command line.
 *
 * @module
 */
import type { CommandTable } from "../tools/program/command.ts";

/** By the word that names them, in the order of the help. */
export const COMMANDS: CommandTable = {
  generate: { summary: "render videos from text", load: () => import("./commands/generate.ts") },
  compare: {
    summary: "render the same prompts with several settings, and compare the clips",
    load: () => import("./commands/compare.ts"),
  },
  train: { summary: "train routers and tile scores for sparse attention", load: () => import("./commands/train.ts") },
  search: {
    summary: "search for the tile shapes that suit a model's heads",
    load: () => import("./commands/search.ts"),
  },
  info: {
    summary: "show GPU adapters, and what a model folder holds",
    load: () => import("./commands/info.ts"),
  },
  parity: {
    summary: "compare every part of a model with reference tensors",
    load: () => import("./commands/parity.ts"),
  },
  completion: {
    summary: "print a script that completes commands in a shell",
    load: () => import("./commands/completion.ts"),
  },
};
