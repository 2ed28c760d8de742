import {
  aFlag,
  aFunction,
  aNumber,
  aText,
  check,
  checkOptions,
  instance,
  type Kinds,
  objectWith,
  oneOf,
  wholeNumber,
} from "../../gpu/common/check_options.ts";
import { type SomeHeadsMethod, withoutConsuming } from "../attention/head_groups.ts";
import type { AttentionMethod, AttentionTask } from "../attention/method.ts";
import type { Grid } from "../attention/grid.ts";
import { nearestSize, otherSizeNotes } from "../attention/sizes.ts";
import { Passes } from "../attention/passes.ts";
import { densityOf, whyStepsFull } from "../attention/report.ts";
import { VortaAttention } from "./attention.ts";
import { shuffledRounds } from "../training/random.ts";
import { type Branch, BRANCHES } from "./branch.ts";
import { Router, routerFor, routerShape, routes } from "./router.ts";
import type { RouterOfSize } from "./router_file.ts";
import type { VortaSettings } from "./settings.ts";

/** Chooses the sizes for a grid. */
export type SettingsFor = (grid: Grid) => VortaSettings;

/** One sparse branch for all heads, for experiments: "sliding" or "coreset". */
export function singleBranch(branch: Exclude<Branch, "full">, settings: SettingsFor): AttentionMethod {
  check("singleBranch: branch", branch, oneOf(BRANCHES.filter((name) => name !== "full")));
  check("singleBranch: settings", settings, { ...aFunction, expected: "a function from a grid to settings" });
  return {
    prepare(task) {
      const { gpu, shape, layout: { grid } } = task, sizes = settings(grid);
      const passes = new Passes(task, (layout) => new VortaAttention(gpu, shape, layout, sizes));
      return Promise.resolve({
        unobserved: true,
        at: (_, pass) => passes.of(pass).single(branch),
        report: (ran) => {
          const density = densityOf(task, (_, pass) => passes.of(pass).pairs[branch], ran);
          return { density, ...density === 1 && { whyFull: whyBranchFull(branch, sizes, grid) } };
        },
        [Symbol.dispose]: () => passes[Symbol.dispose](),
      });
    },
  };
}

/** Options of {@link routedAttention}. */
export interface RoutedAttentionOptions {
  readonly router: Router;
  /** Routers for clips of several sizes, in place of `router`: the one for the nearest size is used. */
  readonly sizes?: readonly Pick<RouterOfSize, "grid" | "router" | "denseShare">[] | undefined;
  readonly settings: SettingsFor;
  /** A head whose scores are all below this uses full attention. Default: 0.3, as in the paper. */
  readonly tau?: number;
  /**
   * The number of first steps with full attention, whatever the router says. Default: the share of the steps that is
   * given for the size, rounded down; 0 with `full`, which has dense steps of its own
   */
  readonly denseSteps?: number;
  /** Computes the heads that the router sends through full attention. */
  readonly full?: SomeHeadsMethod;
  /** Whether the routes are shuffled over steps, layers and heads: as many heads on each branch, for comparison. */
  readonly shuffled?: boolean;
  /** The name of the router in messages. */
  readonly name?: string;
  /** Returns notes on a clip, as clauses. */
  readonly notes?: (clip: Pick<AttentionTask, "layout" | "sigmas" | "family">) => readonly string[];
}

/** The branch's index in routes. */
const FULL = BRANCHES.indexOf("full");

/** The paper's threshold. */
export const DEFAULT_TAU = 0.3;

const ROUTED_KINDS: Kinds<RoutedAttentionOptions> = {
  router: instance(Router, "a Router, as loadRouter gives it,"),
  sizes: { expected: "a list of routers for clips of one size each, as loadRouter gives it,", fits: Array.isArray },
  settings: { ...aFunction, expected: "a function from a grid to settings" },
  tau: aNumber(0, 1),
  denseSteps: wholeNumber(0),
  full: objectWith("a kind of attention for some heads, as vedaHeads gives it,", { prepare: aFunction }),
  shuffled: aFlag,
  name: aText,
  notes: aFunction,
};

/** Computes each head through the branch that the router chooses for its layer and the timestep (VORTA §3.2). */
export function routedAttention(options: RoutedAttentionOptions): AttentionMethod {
  checkOptions("routedAttention", options, ROUTED_KINDS, ["router", "settings"]);
  const { settings, sizes = [], tau = DEFAULT_TAU, name = "the router" } = options;
  return {
    check(shape) {
      for (const { router } of [options, ...sizes]) routerFor(router, routerShape(shape), name);
      options.full?.check?.(shape);
    },
    async prepare(task) {
      const { gpu, shape, layout: { grid }, timesteps } = task;
      const size = nearestSize(grid, sizes), router = routerFor((size ?? options).router, routerShape(shape), name);
      // Rounded down, but not because of a binary fraction's inexactness.
      const share = options.full ? 0 : size?.denseShare ?? 0;
      const { denseSteps = Math.floor(share * timesteps.length + 1e-9) } = options;
      for (const note of otherSizeNotes("routes", name, grid, sizes)) task.onNote?.(note);
      for (const note of options.notes?.(task) ?? []) task.onNote?.(note);
      const { heads, layers } = shape;
      // Scores depend only on the timestep, so the routes of the whole schedule are known before its first step.
      const routed = routes(router.scores(await task.timeEmbedding(timesteps)), tau);
      const draw = shuffledRounds(routed.length, 1);
      const all = options.shuffled ? routed.map((_, i) => routed[draw(i)]!) : routed;
      const byStep = timesteps.map((_, step) =>
        Array.from({ length: layers }, (_, layer) => {
          const at = (layer * timesteps.length + step) * heads;
          return step < denseSteps ? new Uint8Array(heads).fill(FULL) : all.slice(at, at + heads);
        })
      );
      const chosen = settings(grid);
      using cleanUp = new DisposableStack();
      const passes = cleanUp.use(new Passes(task, (layout) => new VortaAttention(gpu, shape, layout, chosen)));
      const full = await options.full?.prepare(task);
      if (full) cleanUp.use(full);
      const fullHeads = byStep.map((step) => step.map((route) => [...route.keys()].filter((h) => route[h] === FULL)));
      const delegateIn = (step: number) => step < denseSteps ? undefined : full;
      const pairs = (step: number, pass: number, layer: number, head: number) => {
        const branch = byStep[step]![layer]![head]!;
        const delegate = branch === FULL ? delegateIn(step) : undefined;
        return delegate ? delegate.pairs(step, pass, layer, head) : passes.of(pass).pairs[BRANCHES[branch]!];
      };
      const sparse = BRANCHES.find((branch, i) => branch !== "full" && all.includes(i));
      const whyFull = full
        ? undefined
        : denseSteps >= timesteps.length
        ? whyStepsFull(denseSteps, timesteps.length)
        : sparse === undefined
        ? `the router has no score of at least ${tau} for any other branch`
        : whyBranchFull(sparse, chosen, grid);
      const held = cleanUp.move();
      return {
        unobserved: !task.onTiles && (full?.unobserved ?? !full),
        at: (step, pass) => {
          const delegate = delegateIn(step)?.at(step, pass, fullHeads[step]!);
          const attend = passes.of(pass).routed(byStep[step]!, delegate);
          return delegate && full?.keepsInputs ? withoutConsuming(attend) : attend;
        },
        report: (ran) => {
          const density = densityOf(task, pairs, ran);
          return {
            density,
            routes: byStep,
            ...denseSteps > 0 && { dense: { steps: Math.min(denseSteps, timesteps.length), layers: 0 } },
            ...density === 1 && whyFull !== undefined && { whyFull },
          };
        },
        [Symbol.dispose]: () => held.dispose(),
      };
    },
  };
}

/** The reason why a branch leaves nothing out. */
function whyBranchFull(branch: Branch, { tile, window, bucket, rate }: VortaSettings, grid: Grid): string {
  const text = (sizes: Grid) => sizes.join("x");
  if (branch === "sliding") {
    return `a window of ${text(window)} tiles of ${text(tile)} covers this clip's ${text(grid)} tokens`;
  }
  return grid.some((tokens, axis) => tokens < bucket[axis]!)
    ? `no bucket of ${text(bucket)} fits into this clip's ${text(grid)} tokens`
    : `a rate of ${rate} drops no token of a bucket of ${text(bucket)}`;
}
