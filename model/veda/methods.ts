import {
  aboveZero,
  aFlag,
  aText,
  checkOptions,
  either,
  type Kind,
  type Kinds,
  listOf,
  objectWith,
  oneOf,
  wholeNumber,
} from "../../gpu/common/check_options.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import type { AttentionMethod } from "../attention/method.ts";
import {
  everyHead,
  type PreparedSomeHeads,
  type SomeHeadsMethod,
  wholeAttention,
  withoutConsuming,
} from "../attention/head_groups.ts";
import { type Grid, product } from "../attention/grid.ts";
import { type HeadShape, prefixesOf } from "../attention/layout.ts";
import { nearestSize, otherSizeNotes } from "../attention/sizes.ts";
import { Passes } from "../attention/passes.ts";
import { densityOf, whyStepsFull } from "../attention/report.ts";
import { inOrder } from "../checkpoint/stored_layers.ts";
import { VedaAttention, type VedaScores } from "./attention.ts";
import { DEFAULT_KEEP, defaultKeep, LEAST_TILES } from "./budget.ts";
import { MASS_TERMS, NO_TERMS, TILE_SCORES, type TileScorer, type TileScores, uploadScorer } from "./scorer.ts";
import { defaultCapacity, defaultShape, type TileShape, type TileShapes, uniformShapes } from "./tile_shapes.ts";

/** The default number of steps with full attention: the first step sets the composition. */
export const DEFAULT_DENSE_STEPS = 1;

/** The usual name of scorer and shapes in messages. */
const NAME = "the tiles";

/** Options of {@link vedaAttention}. */
export interface VedaOptions {
  /** ρ, the share of tiles to keep, above 0. Default: `usualKeep`, or more on small grids; see `defaultKeep`. */
  readonly keep?: number;
  /** The ratio that scores were trained for. Default: {@link DEFAULT_KEEP} */
  readonly usualKeep?: number;
  /** The number of first steps with full attention. Default: {@link DEFAULT_DENSE_STEPS} */
  readonly denseSteps?: number;
  /** The layers with full attention. Default: none */
  readonly denseLayers?: readonly number[];
  readonly scorer?: TileScorer;
  /** What tiles are scored by. Default: the scorer; without one, an estimate of mass that needs no training */
  readonly scores?: TileScores;
  /**
   * Whether to estimate what the tiles that are left out would add, from the means of their keys and values and one
   * covariance for each head (see docs/veda.md). Not in precision int8. Default: false
   */
  readonly rest?: boolean;
  /** A shape for every layer and head, or one for all. Default: one that suits the grid */
  readonly shapes?: TileShapes | TileShape;
  /** The number of tokens of a tile if there are no shapes. Default: one that suits the grid */
  readonly tileTokens?: number;
  /** The name of scorer and shapes in messages. */
  readonly name?: string;
  /** Tiles for clips of several sizes, in place of the options that they have: those for the nearest size are used. */
  readonly sizes?: readonly VedaSize[];
}

/** Tiles that were made for clips of one size. */
export interface VedaSize extends Pick<VedaOptions, "usualKeep" | "scorer" | "shapes" | "tileTokens"> {
  /** The clips' tokens along frames, rows and columns. */
  readonly grid: Grid;
}

const aShare: Kind = {
  expected: "a number above 0 and at most 1",
  fits: (value) => aboveZero.fits(value) && value <= 1,
};

const VEDA_KINDS: Kinds<VedaOptions> = {
  keep: aShare,
  usualKeep: aShare,
  denseSteps: wholeNumber(0),
  denseLayers: listOf(wholeNumber(0), "a list of layers, counted from 0,"),
  scores: oneOf(TILE_SCORES),
  rest: aFlag,
  scorer: objectWith("a scorer, as loadVeda gives it,", { heads: wholeNumber(1), headDim: wholeNumber(1) }),
  shapes: either(
    {
      expected: "a shape of three whole numbers",
      fits: (value) => Array.isArray(value) && value.length === 3 && value.every(wholeNumber(1).fits),
    },
    objectWith("shapes of tiles, as loadVeda gives them,", { choices: { expected: "", fits: Array.isArray } }),
  ),
  tileTokens: wholeNumber(1),
  name: aText,
  sizes: { expected: "a list of tiles for clips of one size each", fits: Array.isArray },
};

/** Each query tile attends to the key tiles with the best scores (Veda). */
export function vedaAttention(options: VedaOptions = {}): AttentionMethod {
  const method = vedaHeads(options);
  return {
    check: method.check!,
    async prepare(task) {
      const veda = await method.prepare(task);
      const { gpu, shape, timesteps, layout } = task, all = everyHead(shape);
      const { denseSteps = DEFAULT_DENSE_STEPS, denseLayers = [] } = options;
      const dense = { steps: Math.min(denseSteps, timesteps.length), layers: new Set(denseLayers).size };
      return {
        unobserved: !task.onTiles,
        at: (step, pass) => {
          const attend = veda.at(step, pass, all);
          const whole = wholeAttention(gpu, { ...layout, length: task.lengths[pass]! }, attend, shape.heads);
          return veda.keepsInputs ? withoutConsuming(whole) : whole;
        },
        report: (ran) => {
          const density = densityOf(task, veda.pairs, ran);
          return {
            density,
            dense,
            ...density === 1 && { whyFull: whyFull(options, timesteps.length, shape, layout.grid) },
          };
        },
        [Symbol.dispose]: () => veda[Symbol.dispose](),
      };
    },
  };
}

/** ρ, the share of tiles that is kept on a grid: as given, or the default. */
export function keepOn(grid: Grid, options: VedaOptions): number {
  const { keep, usualKeep = DEFAULT_KEEP, shapes, tileTokens } = optionsOn(grid, options);
  if (keep !== undefined) return keep;
  const shape = shapes && ("choices" in shapes ? shapes.shapes[0]! : shapes);
  return defaultKeep(usualKeep, product(grid), shape ? product(shape) : tileTokens ?? defaultCapacity(grid));
}

/** The options for a grid, with the tiles for the nearest of several sizes. */
function optionsOn(grid: Grid, options: VedaOptions): VedaOptions {
  const { sizes, ...others } = options, nearest = sizes && nearestSize(grid, sizes);
  if (!nearest) return options;
  const { grid: _, ...made } = nearest;
  return { ...others, ...made };
}

/** The reason why every tile attends to all others. */
function whyFull(given: VedaOptions, steps: number, config: HeadShape, grid: Grid): string {
  const options = optionsOn(grid, given);
  const { denseSteps = DEFAULT_DENSE_STEPS, denseLayers = [], keep } = options;
  if (denseSteps >= steps) return whyStepsFull(denseSteps, steps);
  if (new Set(denseLayers).size >= config.layers) return `all ${config.layers} layers are dense`;
  if (keep === 1) return "all tiles were requested";
  const tokens = product(grid), capacity = product(shapesFor(options, config, grid).shapes[0]!);
  const tiles = Math.ceil(tokens / capacity);
  const why = keep === undefined
    ? `and at least ${LEAST_TILES} are kept unless a share is given`
    : "too few to leave one out";
  return `a clip of ${tokens} tokens has only ${tiles} ${tiles === 1 ? "tile" : "tiles"} of ${capacity}, ${why}`;
}

/** As {@link vedaAttention}, for those heads of a layer that another method delegates. */
export function vedaHeads(given: VedaOptions = {}): SomeHeadsMethod {
  checkOptions("vedaAttention", given, VEDA_KINDS);
  const { denseSteps = DEFAULT_DENSE_STEPS } = given;
  return {
    check(shape) {
      const { scores, name = NAME } = given;
      for (const grid of given.sizes?.map(({ grid }) => grid) ?? [[1, 1, 1] as const]) {
        const { scorer, shapes } = optionsOn(grid, given);
        if (scores === "trained" && !scorer) {
          throw new TilereelError(
            `trained scores of tiles were asked for, but there are none; train some with "tilereel train tiles"`,
          );
        }
        if (scorer) scorerFor(scorer, shape, name);
        if (shapes && "choices" in shapes) shapesFor({ ...given, shapes }, shape, grid);
      }
      denseLayersFor(given, shape);
    },
    prepare(task): Promise<PreparedSomeHeads> {
      const { gpu, shape, layout: { grid }, onTiles } = task, options = optionsOn(grid, given);
      const { sizes = [], name = NAME } = given;
      if (options.rest && gpu.int8) {
        throw new TilereelError(
          `what left-out tiles would add is not estimated in precision int8: use another precision, or no estimate`,
        );
      }
      const notes = given.scores === "random" ? [] : otherSizeNotes("tiles", name, grid, sizes);
      for (const note of notes) task.onNote?.(note);
      const scorer = options.scorer && scorerFor(options.scorer, shape, options.name ?? NAME);
      const shapes = shapesFor(options, shape, grid), keep = keepOn(grid, options);
      const denseLayers = denseLayersFor(options, shape);
      using cleanUp = new DisposableStack();
      const scores = scoresOf(options.scores, scorer, cleanUp.use(new TensorOwner(gpu)));
      const { rest } = options, settings = { shapes, keep, denseLayers, scores, rest };
      const passes = cleanUp.use(new Passes(task, (layout) => new VedaAttention(gpu, shape, layout, settings)));
      const held = cleanUp.move();
      return Promise.resolve({
        unobserved: !onTiles,
        ...rest && { keepsInputs: true },
        at: (step, pass, heads) => passes.of(pass).some(heads, step < denseSteps, { step, pass, onTiles }),
        pairs: (step, pass, layer, head) => passes.of(pass).pairs(layer, head, step < denseSteps),
        [Symbol.dispose]: () => held.dispose(),
      });
    },
  };
}

/** What tiles are scored by; a scorer is uploaded where it is used. */
function scoresOf(kind: TileScores | undefined, scorer: TileScorer | undefined, owner: TensorOwner): VedaScores {
  if (kind === "random") return kind;
  if (kind === "mean") return { terms: NO_TERMS };
  if (!scorer || kind === "second-order") return { terms: MASS_TERMS };
  return { projections: uploadScorer(owner, scorer), terms: scorer.terms ?? NO_TERMS };
}

/**
 * The scorer with its layers in the model's order.
 *
 * @throws {TilereelError} if it belongs to another model
 */
function scorerFor(
  { layers, layerPrefixes, heads, headDim, terms }: TileScorer,
  model: HeadShape,
  name: string,
): TileScorer {
  const own = { layers: layers.length, layerPrefixes };
  const ordered = inOrder(layers, prefixesOf(own), prefixesOf(model));
  if (ordered && heads === model.heads && headDim === model.headDim) {
    return { heads, headDim, layers: ordered, terms };
  }
  throw new TilereelError(
    `${name}: its scorer is for ${own.layers} layers with ${heads} heads of ${headDim}, but this model has ` +
      `${model.layers} with ${model.heads} of ${model.headDim}; train one for it with "tilereel train tiles"`,
  );
}

/** @throws {TilereelError} if the shapes belong to another model */
function shapesFor({ shapes, tileTokens, name = NAME }: VedaOptions, config: HeadShape, grid: Grid): TileShapes {
  const { layers, heads } = config;
  if (!shapes || !("choices" in shapes)) {
    return uniformShapes(shapes ?? defaultShape(grid, tileTokens ?? defaultCapacity(grid)), config);
  }
  const planned = shapes.choices.length, across = shapes.choices[0]?.length ?? 0;
  if (planned !== layers || across !== heads) {
    throw new TilereelError(
      `${name}: its shapes of tiles are for ${planned} layers with ${across} heads, but this model has ${layers} with ` +
        `${heads}; find shapes for it with "tilereel search tiles"`,
    );
  }
  return shapes;
}

/** @throws {TilereelError} if the model does not have one of them */
function denseLayersFor({ denseLayers }: VedaOptions, { layers }: HeadShape): ReadonlySet<number> {
  const beyond = denseLayers?.find((layer) => layer >= layers);
  if (beyond === undefined) return new Set(denseLayers);
  throw new TilereelError(`layer ${beyond} cannot be dense: this model has ${layers} layers, 0 to ${layers - 1}`);
}
