import { parseSetting, type Setting } from "./setting.ts";

/**
 * The settings of a study of sparse attention, beside full attention: each method at several densities, with and without
 * dense first steps, both together, what is as sparse but chooses at random or without training, and each branch alone.
 */
const STUDY: readonly string[] = [
  // What a router's file says of dense steps is one of these.
  ...["vorta", "vorta dense-steps=0", "vorta dense-steps=1", "vorta dense-steps=2"],
  ...["vorta tau=0.5 dense-steps=1", "vorta tau=0.7 dense-steps=1"],
  ...["veda keep=0.2", "veda keep=0.1", "veda keep=0.05"],
  ...["veda keep=0.1 dense-steps=2", "veda keep=0.2 dense-steps=0", "veda keep=0.1 dense-steps=0"],
  "both: vorta full-branch=veda keep=0.2",
  "random routes: vorta dense-steps=1 routes=random",
  "random tiles: veda keep=0.1 tile-scores=random",
  "mean pooling: veda keep=0.1 tile-scores=mean",
  "second order: veda keep=0.1 tile-scores=second-order",
  ...["sliding", "coreset"],
];

/** {@link STUDY}, read. */
export const studySettings = (): Setting[] => STUDY.map((words) => parseSetting(words, "--study"));
