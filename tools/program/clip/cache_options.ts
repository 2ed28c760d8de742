/**
 * The options of step caches.
 *
 * @module
 */
import { easyCache } from "../../../model/cache/easy.ts";
import { DEFAULT_THRESHOLD, firstBlockCache } from "../../../model/cache/first_block.ts";
import { PAB_DEFAULTS, pyramidAttentionBroadcast } from "../../../model/cache/pab.ts";
import type { StepCache } from "../../../model/cache/step_cache.ts";
import { teaCache } from "../../../model/cache/tea.ts";
import { choice, inGroup, integer, notation, number, ofClip, type OptionValues } from "../options.ts";
import { refuseStray } from "./stray_option.ts";

/** The table of cache options. */
export const cacheOptions = ofClip(inGroup("Cache", {
  cache: choice({
    choices: ["none", "first-block", "tea", "easy", "pab"],
    help:
      "Use again what an earlier step computed, where it hardly changes. first-block and tea skip the blocks of a " +
      "step, easy skips whole steps, and pab skips attention. All of them are faster and change the clip a little.",
    elsewhere: ["cache-mode", "cache-type", "use-cache", "teacache", "easycache", "enable-teacache"],
    default: "none",
  }),
  "cache-threshold": number({
    help:
      "For first-block, tea and easy: the change up to which a step is skipped. Higher is faster and further from " +
      "the clip without a cache.",
    elsewhere: ["teacache-thresh", "residual-diff-threshold", "cache-thresh"],
    default: `${DEFAULT_THRESHOLD} for first-block; for tea and easy, what their authors use for the model`,
    above: 0,
  }),
  "cache-first": integer({
    help: "For easy: the number of first steps that are always computed.",
    elsewhere: ["ret-steps", "cache-warmup"],
    default: "10; 5 for HunyuanVideo",
    min: 2,
  }),
  "tea-coefficients": notation<readonly number[]>(
    {
      value: "LIST",
      help: "For tea: the polynomial that estimates the change of a step's output, highest power first. Models that " +
        "TeaCache's authors did not measure need one.",
      default: "the authors', for Wan 2.1 1.3B and 14B and for HunyuanVideo",
    },
    "numbers as in 733.2,-401.1,67.6,-3.15,0.096",
    (text) => {
      const list = text.split(",").map((part) => part.trim() === "" ? NaN : Number(part));
      return list.every(Number.isFinite) ? list : undefined;
    },
  ),
  "pab-self": integer({
    help: "For pab: self-attention is computed at every N-th step. 1: at all steps.",
    elsewhere: ["spatial-attention-block-skip-range"],
    default: PAB_DEFAULTS.self,
    min: 1,
  }),
  "pab-cross": integer({
    help: "For pab: attention to the text is computed at every N-th step, where a model has it apart from " +
      "self-attention. 1: at all steps.",
    elsewhere: ["cross-attention-block-skip-range"],
    default: PAB_DEFAULTS.cross,
    min: 1,
  }),
  "pab-between": notation<readonly [number, number]>(
    {
      value: "LOW-HIGH",
      help: "For pab: attention is used again only between these two timesteps; 1000 is pure noise.",
      elsewhere: ["spatial-attention-timestep-skip-range"],
      default: PAB_DEFAULTS.between.join("-"),
    },
    "two timesteps as in 100-800",
    (text) => {
      const [, low, high] = /^(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)$/.exec(text)?.map(Number) ?? [];
      return low !== undefined && high !== undefined && low < high ? [low, high] : undefined;
    },
  ),
}));

/** Values of {@linkcode cacheOptions} that were given. */
export type CacheValues = OptionValues<typeof cacheOptions>;

type CacheKind = NonNullable<CacheValues["cache"]>;

/** The options of each kind. */
const TAKES: Readonly<Record<CacheKind, readonly (keyof CacheValues)[]>> = {
  none: [],
  "first-block": ["cache-threshold"],
  tea: ["cache-threshold", "tea-coefficients"],
  easy: ["cache-threshold", "cache-first"],
  pab: ["pab-self", "pab-cross", "pab-between"],
};

/** The values that still apply with another kind of cache: options of the first kind do not. */
export function cacheStillMeant<T extends CacheValues>(under: T, over: CacheValues): T {
  if (over.cache === undefined || over.cache === (under.cache ?? "none")) return under;
  return Object.fromEntries(Object.entries(under).filter(([key]) => !Object.hasOwn(cacheOptions, key))) as T;
}

/** A cache with its settings. */
export interface ReadyCache {
  readonly cache: StepCache | undefined;
  /** Its kind and settings, as the record of a clip has them; nothing without a cache. */
  readonly record: Readonly<Record<string, unknown>>;
}

/**
 * The cache that was asked for.
 *
 * @throws {TilereelError} if options contradict one another, with the `option`
 */
export function readyCache(values: CacheValues): ReadyCache {
  const { cache: kind = "none" } = values;
  refuseStray({ option: "cache", table: cacheOptions, takes: TAKES }, values, kind);
  const { "cache-threshold": threshold, "cache-first": first, "tea-coefficients": coefficients } = values;
  const { "pab-self": self = PAB_DEFAULTS.self, "pab-cross": cross = PAB_DEFAULTS.cross } = values;
  const { "pab-between": between = PAB_DEFAULTS.between } = values;
  const own = threshold !== undefined && { cacheThreshold: threshold };
  switch (kind) {
    case "none":
      return { cache: undefined, record: {} };
    case "first-block":
      return {
        cache: firstBlockCache({ threshold }),
        record: { cache: kind, cacheThreshold: threshold ?? DEFAULT_THRESHOLD },
      };
    case "tea":
      return {
        cache: teaCache({ threshold, coefficients }),
        record: { cache: kind, ...own, ...coefficients && { teaCoefficients: coefficients } },
      };
    case "easy":
      return {
        cache: easyCache({ threshold, first }),
        record: { cache: kind, ...own, ...first !== undefined && { cacheFirst: first } },
      };
    case "pab":
      return {
        cache: pyramidAttentionBroadcast({ self, cross, between }),
        record: { cache: kind, pabSelf: self, pabCross: cross, pabBetween: between.join("-") },
      };
  }
}
