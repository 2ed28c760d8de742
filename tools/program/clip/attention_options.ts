import { checkMadeFor } from "../../../model/attention/made_for.ts";
import type { FamilyModel } from "../../../model/family.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { fullAttention } from "../../../model/attention/full.ts";
import type { AttentionMethod } from "../../../model/attention/method.ts";
import { DEFAULT_TAU, routedAttention, singleBranch } from "../../../model/vorta/methods.ts";
import { vedaAttention, vedaHeads } from "../../../model/veda/methods.ts";
import { DEFAULT_SPARSITY, distilledAttention, vsaAttention } from "../../../model/vsa/methods.ts";
import { distilledIn } from "../../../model/checkpoint/model_folder.ts";
import { loadRouter, settingsOfRouter } from "../../../model/vorta/router_file.ts";
import { defaultSettings, PAPER_SETTINGS, type VortaSettings } from "../../../model/vorta/settings.ts";
import type { Grid } from "../../../model/attention/grid.ts";
import { fileAt, folderAt } from "../../../model/files/disk.ts";
import type { FileStore } from "../../../model/files/store.ts";
import { ownFile } from "../../../model/own_files.ts";
import { isTorchZip } from "../../../model/checkpoint/torch_zip.ts";
import { fileIdentity } from "../../../model/identity/file_identity.ts";
import { choice, inGroup, number, ofClip, ofOption, type OptionValues, path } from "../options.ts";
import { refuseStray } from "./stray_option.ts";
import { readyVeda, VEDA_KEYS, vedaOptions } from "./veda_options.ts";
import { sizesRecord, sizesText, vortaOptions, vortaSettings } from "./vorta_options.ts";

/** The options that say how self-attention is computed. */
export const attentionOptions = ofClip(inGroup("Attention", {
  attention: choice({
    choices: ["full", "vorta", "veda", "vsa", "sliding", "coreset"],
    help: "How self-attention is computed. full: every token attends to all tokens; vorta: a trained router " +
      "chooses for each head; veda: each tile of tokens attends to the tiles that matter most to it; vsa, which " +
      "FastWan was trained with: to the tiles whose means score best, and to the means of all; sliding and " +
      "coreset, for study: every head attends to its neighbourhood, or to representatives.",
    elsewhere: ["attention-type", "attn", "attention-backend"],
    default: "full; vsa for FastWan; vorta if --router is given; veda if --tiles is given",
  }),
  router: path({
    value: "FILE",
    help: 'For vorta: the router, made by "tilereel train router" or by the authors of VORTA (safetensors or ' +
      "router.pt).",
    elsewhere: ["router-path", "resume-dir"],
    default: "router.safetensors in the model's folder",
  }),
  tau: number({
    help: "For vorta: a head whose highest score is below this uses full attention. Higher values are slower and " +
      "closer to full attention. The three scores of a head sum to 1, so up to 1/3 it changes nothing.",
    elsewhere: ["tau-sparse"],
    default: DEFAULT_TAU,
    min: 0,
    max: 1,
  }),
  "full-branch": choice({
    choices: ["full", "veda"],
    help: "For vorta: how the heads with full attention are computed. With veda, its options apply, too.",
    default: "full",
  }),
  routes: choice({
    choices: ["router", "random"],
    help: "For vorta, for study: random sends as many heads to each branch as the router does, but others.",
    elsewhere: ["routing"],
    default: "router",
  }),
  ...vortaOptions,
  ...vedaOptions,
  sparsity: number({
    help: "For vsa: the share of tiles that a tile does not attend to. Higher is faster.",
    elsewhere: ["vsa-sparsity"],
    default: `the model's, or ${DEFAULT_SPARSITY}`,
    min: 0,
    max: 1,
  }),
}));

/** Values of {@linkcode attentionOptions} that were given. */
export type AttentionValues = OptionValues<typeof attentionOptions>;

/** The options of each kind of attention. */
const TAKES: Readonly<Record<string, readonly (keyof typeof attentionOptions)[]>> = {
  full: [],
  vorta: ["router", "tau", "full-branch", "routes", "dense-steps", "tile", "window", "bucket", "rate"],
  veda: VEDA_KEYS,
  vsa: ["sparsity"],
  sliding: ["tile", "window"],
  coreset: ["bucket", "rate"],
};

/** Whether a kind of attention was chosen, directly or through one of its options. */
function isChosen(values: AttentionValues): boolean {
  return values.attention !== undefined || attentionKind(values) !== "full";
}

/** The kind of attention that was chosen. A distilled model may have another if none was. */
export function attentionKind(values: AttentionValues): string {
  if (values.attention !== undefined) return values.attention;
  if (values.router !== undefined || values["full-branch"] !== undefined) return "vorta";
  return values.tiles === undefined ? "full" : "veda";
}

/** The values that still apply with another kind of attention: options of the first kind do not. */
export function attentionStillMeant<T extends AttentionValues>(under: T, over: AttentionValues): T {
  const kind = isChosen(over) ? attentionKind(over) : undefined;
  const isBranch = kind === "veda" && over.attention === undefined && under["full-branch"] === "veda";
  if (kind === undefined || kind === attentionKind(under) || isBranch) return under;
  return Object.fromEntries(Object.entries(under).filter(([key]) => !Object.hasOwn(attentionOptions, key))) as T;
}

/** A method of attention whose files are loaded. */
export interface ReadyAttention {
  readonly kind: string;
  readonly method: AttentionMethod;
  /**
   * Checks what the method itself cannot: whether its files are for the model's kind.
   *
   * @throws {TilereelError} if one was made for another
   */
  check?(model: Pick<FamilyModel, "family">): void;
  /** Its complete settings on a grid, as the record of a clip has them. */
  settings(grid: Grid): Readonly<Record<string, unknown>>;
}

/**
 * The attention that was asked for.
 *
 * @param model folder of the model, where its own router is looked for
 * @throws {TilereelError} if options contradict one another (with the `option`), or the router cannot be used
 */
export async function readyAttention(values: AttentionValues, model: string | FileStore): Promise<ReadyAttention> {
  const distilled = isChosen(values) ? undefined : await distilledIn(model), usual = distilledAttention(distilled);
  const kind = usual ? "vsa" : attentionKind(values);
  const both = kind === "vorta" && values["full-branch"] === "veda";
  refuseStray({ option: "attention", table: attentionOptions, takes: TAKES }, values, kind, {
    ...both && { taken: [...TAKES.vorta!, ...VEDA_KEYS] },
    ...kind === "vorta" && { more: " (or --full-branch veda)" },
  });
  if (kind === "full") return { kind, method: fullAttention, settings: () => ({}) };
  if (kind === "vsa") {
    const { sparsity = distilled?.sparsity ?? DEFAULT_SPARSITY } = values;
    const method = values.sparsity === undefined && usual || vsaAttention({ sparsity });
    return { kind, method, settings: () => ({ sparsity }) };
  }
  const veda = kind === "veda" || both ? await readyVeda(values, model) : undefined;
  if (kind === "veda") {
    return { kind, method: vedaAttention(veda!.options), check: veda!.check, settings: veda!.record };
  }
  const file = values.router === undefined ? await ownFile(model, "router") : fileAt(values.router);
  const loaded = file && await loadRouter(file).catch((error) => {
    throw ofOption(values.router && "router", error);
  });
  const sizesOn = loaded ? settingsOfRouter(loaded) : defaultSettings;
  const settings = (grid: Grid) => vortaSettings(values, sizesOn(grid));
  // Settings that fit no grid are refused before anything is loaded.
  vortaSettings(values, loaded?.settings ?? PAPER_SETTINGS);
  const sizes = (grid: Grid) => sizesRecord(settings(grid));
  if (kind === "sliding" || kind === "coreset") {
    return {
      kind,
      method: singleBranch(kind, settings),
      settings: (grid) =>
        Object.fromEntries(Object.entries(sizes(grid)).filter(([key]) => TAKES[kind]!.includes(key as never))),
    };
  }
  if (!file || !loaded) {
    throw new TilereelError(
      `--attention vorta needs a router, and ${folderAt(model).path} has none: name one with --router FILE, ` +
        `or train one with "tilereel train router"`,
      { option: values.attention === undefined ? "full-branch" : "attention" },
    );
  }
  const router = await fileIdentity("router", file), tau = values.tau ?? DEFAULT_TAU;
  const shuffled = values.routes === "random", denseSteps = both ? 0 : values["dense-steps"];
  const byAuthors = await isTorchZip(file), { path } = file;
  return {
    kind,
    check: (model) => {
      checkMadeFor(path, loaded.madeFor, model.family);
      veda?.check(model);
    },
    method: routedAttention({
      router: loaded.router,
      sizes: loaded.sizes,
      settings,
      ...both && { full: vedaHeads(veda!.options) },
      tau,
      ...denseSteps !== undefined && { denseSteps },
      shuffled,
      name: path,
      notes: ({ layout: { grid }, sigmas, family }) => [
        // A training without sizes took those of each grid, and the router is used as it was trained.
        ...!loaded.settings && !loaded.sizes && !loaded.madeFor && SIZES.some((size) => values[size] === undefined)
          ? [withoutSettings(path, settings(grid), grid)]
          : [],
        ...byAuthors && sigmas === undefined && family?.routersSigmas !== undefined
          ? [`the authors of VORTA sample with the noise levels that --sigmas ${family.routersSigmas} gives`]
          : [],
      ],
    }),
    settings: (grid) => ({
      ...{
        ...router,
        tau,
        ...shuffled && { routes: "random" },
        ...!both && denseSteps !== undefined && { denseSteps },
        ...sizes(grid),
      },
      ...both && { fullBranch: "veda", ...veda!.record(grid) },
    }),
  };
}

const SIZES = ["tile", "window", "bucket", "rate"] as const;

function withoutSettings(path: string, { tile, window, bucket, rate }: VortaSettings, grid: Grid): string {
  return `${path} has no config.json that says its sizes, so those for a grid of ${sizesText(grid)} tokens are used: ` +
    `--tile ${sizesText(tile)} --window ${sizesText(window)} --bucket ${sizesText(bucket)} --rate ${rate}`;
}
