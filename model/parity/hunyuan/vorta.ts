import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import { type Grid, product } from "../../attention/grid.ts";
import { VortaAttention } from "../../vorta/attention.ts";
import { BRANCHES } from "../../vorta/branch.ts";
import { regularization, routerShape } from "../../vorta/router.ts";
import { settingsFromKwargs } from "../../vorta/settings.ts";
import { trainingPass } from "../../vorta/training_pass.ts";
import { BOUNDS, SCALAR_BOUNDS } from "../bounds.ts";
import { type Check, Checks, type ParityCase, References } from "../case.ts";
import { routerOf, routesByLayer, settingsOf } from "../vorta.ts";
import { loadTiny, passOf } from "./transformer.ts";

/**
 * The three branches on given q, k, v with text behind the video: `vorta_hunyuan_*`, made by the VORTA authors' code. Each
 * branch's text is compared by itself, and padding must be 0.
 */
export const vortaHunyuan: ParityCase = {
  matches: /^vorta_hunyuan_(?!train).*\.safetensors$/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(path);
    const [heads, , headDim] = references.source.info("q").shape.slice(1) as [number, number, number];
    const grid = references.setting<Grid>("grid"), video = product(grid), dim = heads * headDim;
    const length = references.setting<number>("valid_text_tokens");
    const layout = { grid, kept: references.setting<number>("text_tokens"), length };
    for (const gpu of gpus) {
      const check = new Checks(path, gpu, references);
      using vorta = new VortaAttention(gpu, { heads, headDim, ownKeys: true }, layout, settingsOf(references));
      const { q, k, v } = await references.uploadQkv(gpu);
      for (const branch of BRANCHES) {
        const y = vorta.single(branch)(q, k, v, 0), numbers = await gpu.read(y);
        gpu.release(y);
        for (const [name, first, count] of [[branch, 0, video], [`${branch}.text`, video, length]] as const) {
          const own = numbers.subarray(first * dim, (first + count) * dim);
          const expected = { numbers: await references.byToken(name, count), row: headDim };
          yield* check.rows(name, BOUNDS.vortaHunyuan, own, expected);
        }
        const padding = numbers.subarray((video + length) * dim);
        yield check.differing(`${branch} padding`, padding.filter((value) => value !== 0).length);
      }
      for (const tensor of [q, k, v]) gpu.release(tensor);
    }
  },
};

/** `vorta_hunyuan_train`: training and routed inference by the authors' code, with the model in `tiny_hunyuan` beside it. */
export const vortaHunyuanTrain: ParityCase = {
  matches: /^vorta_hunyuan_train\.safetensors$/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(path);
    const settings = settingsFromKwargs(references.setting("config"), "references");
    for (const gpu of gpus) {
      const check = new Checks(path, gpu, references);
      using model = await loadTiny(gpu, path.replace(/[^/]*$/, "tiny_hunyuan"));
      using owned = new TensorOwner(gpu);
      const pass = await passOf(owned, references), { latents, conditioning, timesteps } = pass;
      const { heads } = model.shape, temb = await model.timeEmbedding(timesteps);
      const router = await routerOf(references, routerShape(model.shape));
      const scores = router.scores(temb);

      using vorta = new VortaAttention(gpu, model.shape, model.layout(latents.shape, conditioning), settings);
      for (const tau of [0.3, 0.5]) {
        const perLayer = routesByLayer(scores, tau, model.shape), reference = `output.tau${tau}`;
        const { result: selfAttention, tensors } = gpu.collect(() => vorta.routed(perLayer));
        owned.adopt(tensors);
        const [velocity] = owned.adopt(await model.predict([{ ...pass, selfAttention }]));
        yield* check.rows(`output, τ ${tau}`, BOUNDS.hunyuanEval, velocity!, { reference });
      }

      // Training runs in f32.
      if (gpu.f16) continue;
      yield* check.rows("routing_scores", BOUNDS.routingScores, scores);
      const weights = references.setting<Record<"regularization" | "distillation" | "hidden", number>>("weights");
      const { losses, scoreGradients } = await trainingPass(gpu, model, {
        ...{ noisy: latents, timestep: timesteps[0]!, conditioning, scores, settings },
        target: owned.adopt(await references.upload(gpu, "target")),
        weights: { diffusion: 1, ...weights },
      });
      const penalty = regularization(scores, heads), gradients = router.zeros();
      for (const [name, value] of Object.entries({ ...losses, regularization: penalty.loss })) {
        yield await check.relative(`loss.${name}`, SCALAR_BOUNDS.losses[name as keyof typeof losses], [value]);
      }
      const penalized = scoreGradients.map((g, i) => g + weights.regularization * penalty.gradients[i]!);
      router.backward(temb, scores, penalized, gradients);
      for (const [name, { data }] of gradients.parameters()) {
        yield* check.rows(`grad.${name}`, BOUNDS.routerGradient, data);
      }
    }
  },
};
