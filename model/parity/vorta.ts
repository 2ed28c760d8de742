import type { Gpu } from "../../gpu/gpu.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { openModelFolder } from "../checkpoint/model_folder.ts";
import { openPart } from "../checkpoint/open_part.ts";
import { TRANSFORMER_WEIGHTS } from "../wan/weights.ts";
import { adamwStep, clipGradients } from "../training/adamw.ts";
import type { Conditioning } from "../family.ts";
import { VortaAttention } from "../vorta/attention.ts";
import { BRANCHES } from "../vorta/branch.ts";
import { type CoreSet, coreSet } from "../vorta/core_set.ts";
import { regularization, Router, type RouterShape, routes } from "../vorta/router.ts";
import { settingsFromKwargs, type VortaSettings } from "../vorta/settings.ts";
import { scoreTensors, trainingPass } from "../vorta/training_pass.ts";
import type { SelfAttention } from "../attention/method.ts";
import { readTransformerConfig } from "../wan/config.ts";
import type { Grid } from "../attention/grid.ts";
import { WanTransformer3DModel } from "../wan/transformer.ts";
import { BOUNDS, SCALAR_BOUNDS } from "./bounds.ts";
import { relativeError } from "../../gpu/relative_error.ts";
import { type Check, Checks, type ParityCase, type ParityContext, References } from "./case.ts";
import { errorByGradient } from "./measures.ts";

/**
 * `vorta_attention_*` (this and the following by the VORTA authors' code): the three branches on given q, k, v, and the
 * tokens that core-set attention keeps.
 */
export const vortaAttention: ParityCase = {
  matches: /^vorta_attention_.*\.safetensors$/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(path);
    const [heads, , headDim] = references.source.info("q").shape.slice(1) as [number, number, number];
    const grid = references.setting<Grid>("grid");
    const settings = settingsOf(references);
    for (const gpu of gpus) {
      const check = new Checks(path, gpu, references);
      using vorta = new VortaAttention(gpu, { heads, headDim }, { grid, kept: 0 }, settings);
      const { q, k, v } = await references.uploadQkv(gpu);
      for (const branch of BRANCHES) {
        const y = vorta.single(branch)(q, k, v, 0);
        yield* check.rows(branch, BOUNDS.vortaAttention, y, {
          numbers: await references.byToken(branch),
          row: headDim,
        });
        gpu.release(y);
      }
      const order = vorta.select(q, k)!.order;
      const kept = new Uint32Array(await gpu.readBytes(order)), expected = await references.read("coreset.kept");
      yield check.differing("kept tokens", differing(kept, expected, heads, coreSet({ grid, kept: 0 }, settings)));
      for (const tensor of [q, k, v, order]) gpu.release(tensor);
    }
  },
};

/** The sizes that a file of attention was made with. */
export function settingsOf(references: References): VortaSettings {
  return {
    tile: references.setting("tile"),
    window: references.setting("sliding_window"),
    bucket: references.setting("coreset_window"),
    rate: references.setting("reduction_rate"),
  };
}

/** The router in a file. */
export async function routerOf(references: References, shape: RouterShape): Promise<Router> {
  const router = Router.random(shape, 0);
  for (const [name, { data }] of router.parameters()) data.set(await references.read(name));
  return router;
}

/** For each layer the branch of each head, by the scores at one timestep. */
export function routesByLayer(
  scores: Float32Array,
  tau: number,
  { layers, heads }: Pick<RouterShape, "layers" | "heads">,
): Uint8Array[] {
  const all = routes(scores, tau);
  return Array.from({ length: layers }, (_, layer) => all.subarray(layer * heads, (layer + 1) * heads));
}

/** The losses that the references were trained with. */
const WEIGHTS = { diffusion: 1, regularization: 0.02, distillation: 20 };

/** `vorta_train`: one training pass, then the losses and routers of three steps of AdamW. */
export const vortaTrain: ParityCase = {
  matches: /^vorta_train\.safetensors$/,
  async *run(path, context): AsyncIterable<Check> {
    const [gpu] = context.gpus;
    using references = await References.open(path);
    using setup = await Setup.open(gpu, references, references, context);
    const { transformer, settings, inputs, temb } = setup;
    const { heads, layers } = transformer.config;
    const router = await setup.router();
    const check = new Checks(path, gpu, references);

    const scores = router.scores(temb);
    yield* check.rows("routing_scores", BOUNDS.routingScores, scores);
    const weighted = scoreTensors(gpu, scores, layers, heads);
    yield* check.rows("output", BOUNDS.vortaTrainOutput, await setup.forward((vorta) => vorta.weighted(weighted)));
    for (const tensor of weighted.flat()) gpu.release(tensor);

    const target = await references.upload(gpu, "target");
    const [mean, square] = [router.zeros().parameters(), router.zeros().parameters()];
    const losses: number[] = [];
    for (let step = 0; step < 3; step++) {
      const scores = router.scores(temb);
      const weights = {
        diffusion: WEIGHTS.diffusion,
        distillation: WEIGHTS.distillation,
        hidden: step === 0 ? 1e-30 : 0,
      };
      const pass = await trainingPass(gpu, transformer, { ...inputs, target, scores, settings, weights });
      const penalty = regularization(scores, heads);
      losses.push(
        WEIGHTS.diffusion * pass.losses.diffusion + WEIGHTS.regularization * penalty.loss +
          WEIGHTS.distillation * pass.losses.distillation,
      );
      const gradients = router.zeros();
      router.backward(
        temb,
        scores,
        pass.scoreGradients.map((g, i) => g + WEIGHTS.regularization * penalty.gradients[i]!),
        gradients,
      );
      if (step === 0) {
        const values = { ...pass.losses, regularization: penalty.loss, total: losses[0]! };
        for (const [name, value] of Object.entries(values)) {
          yield await check.relative(`loss.${name}`, SCALAR_BOUNDS.losses[name as keyof typeof values], [value]);
        }
        for (const [name, { data }] of gradients.parameters()) {
          yield* check.rows(`grad.${name}`, BOUNDS.routerGradient, data);
        }
      }
      const all = gradients.parameters();
      clipGradients([...all.values()].map(({ data }) => data), 1);
      for (const [name, { data }] of router.parameters()) {
        const of = (moments: typeof all) => moments.get(name)!.data;
        const state = { data, gradient: of(all), mean: of(mean), square: of(square) };
        adamwStep(state, step + 1, { lr: 1e-2, weightDecay: 0.01 });
      }
    }
    gpu.release(target);
    const lossError = relativeError(losses, references.setting<number[]>("losses_of_3_steps"));
    yield check.error("losses of 3 steps", SCALAR_BOUNDS.losses.total, lossError);
    // Weighted by their gradients, because AdamW also changes parameters whose gradients are only rounding errors.
    for (const [name, { data }] of router.parameters()) {
      const expected = await references.read(`step3.${name}`), gradient = await references.read(`grad.${name}`);
      const error = errorByGradient(data, expected, gradient, expected.length / (3 * heads));
      yield check.error(`step3.${name}, by gradient`, SCALAR_BOUNDS.trainedRouter, error);
    }
  },
};

/** `vorta_eval` and `vorta_partial`: routed inference, where each head takes the branch that its score names. */
export const vortaEval: ParityCase = {
  matches: /^vorta_(?:eval|partial)\.safetensors$/,
  async *run(path, context): AsyncIterable<Check> {
    using references = await References.open(path);
    using inputs = await References.open(
      `${path.slice(0, path.lastIndexOf("/"))}/${references.setting<string>("inputs")}`,
    );
    const bounds = path.endsWith("partial.safetensors") ? BOUNDS.vortaPartial : BOUNDS.vortaEval;
    for (const gpu of context.gpus) {
      using setup = await Setup.open(gpu, inputs, references, context);
      const { layers, heads } = setup.transformer.config;
      const scores = (await setup.router()).scores(setup.temb);
      for (const tau of [0.3, 0.5]) {
        const perLayer = routesByLayer(scores, tau, { layers, heads });
        const output = await setup.forward((vorta) => vorta.routed(perLayer)), reference = `output.tau${tau}`;
        yield* new Checks(path, gpu, references).rows(`output, τ ${tau}`, bounds, output, { reference });
      }
    }
  },
};

/** The demo model and the inputs of the references, on one GPU. */
class Setup implements Disposable {
  private constructor(
    private readonly gpu: Gpu,
    private readonly references: References,
    readonly transformer: WanTransformer3DModel,
    readonly settings: VortaSettings,
    readonly inputs: { readonly noisy: Tensor; readonly conditioning: Conditioning; readonly timestep: number },
    /** [1, dim] */
    readonly temb: Float32Array,
  ) {}

  static async open(
    gpu: Gpu,
    references: References,
    config: References,
    { model }: ParityContext,
  ): Promise<Setup> {
    const dir = await (await openModelFolder(model)).component("transformer");
    using source = await openPart(dir, TRANSFORMER_WEIGHTS);
    const transformer = await WanTransformer3DModel.load(
      gpu,
      source,
      await readTransformerConfig(dir.file("config.json")),
    );
    const timestep = (await references.read("timestep"))[0]!;
    return new Setup(
      gpu,
      references,
      transformer,
      settingsFromKwargs(config.setting("config"), "references"),
      {
        noisy: await references.upload(gpu, "hidden_states"),
        conditioning: { text: await references.upload(gpu, "encoder_hidden_states") },
        timestep,
      },
      await transformer.timeEmbedding([timestep]),
    );
  }

  /** The router that the references start from. */
  async router(): Promise<Router> {
    const { heads, dim, layers } = this.transformer.config;
    return await routerOf(this.references, { heads, dim, layers });
  }

  /** One forward pass. */
  async forward(attend: (vorta: VortaAttention) => SelfAttention): Promise<Float32Array> {
    const { gpu, transformer, inputs: { noisy, timestep, conditioning } } = this;
    using vorta = new VortaAttention(gpu, transformer.shape, transformer.layout(noisy.shape), this.settings);
    using owned = new TensorOwner(gpu);
    const { result: selfAttention, tensors } = gpu.collect(() => attend(vorta));
    owned.adopt(tensors);
    const pass = { latents: noisy, timesteps: [timestep], conditioning, selfAttention };
    const [velocity] = owned.adopt(await transformer.predict([pass]));
    return await gpu.read(velocity!);
  }

  [Symbol.dispose](): void {
    for (const tensor of [this.inputs.noisy, this.inputs.conditioning.text]) this.gpu.release(tensor);
    this.transformer[Symbol.dispose]();
  }
}

/**
 * The number of tokens that only one side keeps.
 *
 * @param order [heads, slots]: centres, then the kept tokens bucket by bucket
 * @param reference [heads, buckets, keep]: their positions among a bucket's other tokens
 */
function differing(
  order: Uint32Array,
  reference: Float32Array,
  heads: number,
  { members, size, centre, keep, slots }: CoreSet,
): number {
  const buckets = members.length / size;
  let count = 0;
  for (let h = 0; h < heads; h++) {
    for (let b = 0; b < buckets; b++) {
      const first = h * slots + buckets + b * keep;
      const ours = new Set(order.subarray(first, first + keep));
      for (const place of reference.subarray((h * buckets + b) * keep, (h * buckets + b + 1) * keep)) {
        if (!ours.has(members[b * size + place + (place >= centre ? 1 : 0)]!)) count++;
      }
    }
  }
  return count;
}
