import type { CommandTable } from "../tools/program/command.ts";

/** The commands of the command line, by the word that names them, in the order of the help. */
export const COMMANDS: CommandTable = {
  generate: { summary: "render videos from text and pictures", load: () => import("./commands/generate.ts") },
  compare: {
    summary: "render the same prompts with several settings, and compare the clips",
    load: () => import("./commands/compare.ts"),
  },
  train: {
    summary: "train routers and tile scores for sparse attention",
    description: "Trains what a model needs for sparse attention. The model itself does not change.",
    commands: {
      router: {
        summary: "VORTA: which heads need full attention, and when",
        load: () => import("./commands/train_router.ts"),
      },
      tiles: {
        summary: "Veda: which tiles of a clip matter to which",
        load: () => import("./commands/train_tiles.ts"),
      },
    },
    examples: {
      "tilereel train router --prompts prompts.txt": "Trains a router for the embedded demo model.",
      "tilereel train tiles --prompts prompts.txt": "Trains scores of tiles for it.",
    },
  },
  search: {
    summary: "search for the tile shapes that suit a model's heads",
    description: "Searches for settings that suit a model.",
    commands: {
      tiles: {
        summary: "Veda: the shape of tile that suits each head",
        load: () => import("./commands/search_tiles.ts"),
      },
    },
    examples: {
      "tilereel search tiles --prompts prompts.txt": "Finds tile shapes for the embedded demo model.",
    },
  },
  serve: {
    summary: "a studio in the browser, and an HTTP API for other programs",
    load: () => import("./commands/serve.ts"),
  },
  assist: {
    summary: "compute half of each step for a process with another GPU",
    load: () => import("./commands/assist.ts"),
  },
  status: {
    summary: "say what is done, runs or was broken off in a folder",
    load: () => import("./commands/status.ts"),
  },
  download: {
    summary: "fetch a model from Hugging Face",
    load: () => import("./commands/download.ts"),
  },
  convert: {
    summary: "write a model as a folder that loads fast, or in a smaller format",
    load: () => import("./commands/convert.ts"),
  },
  info: {
    summary: "show GPU adapters, and what a model folder holds",
    load: () => import("./commands/info.ts"),
  },
  tune: {
    summary: "find the fastest kernels of this GPU",
    load: () => import("./commands/tune.ts"),
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
