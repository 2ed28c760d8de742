import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import { type Grid, product } from "../../attention/grid.ts";
import { openPart } from "../../checkpoint/open_part.ts";
import { readTransformerConfig } from "../../hunyuan/config.ts";
import { HunyuanVideoTransformer3DModel } from "../../hunyuan/transformer.ts";
import { TRANSFORMER_WEIGHTS } from "../../hunyuan/weights.ts";
import { VortaAttention } from "../../vorta/attention.ts";
import { BRANCHES } from "../../vorta/branch.ts";
import { regularization, Router, routerShape } from "../../vorta/router.ts";
import { settingsFromKwargs } from "../../vorta/settings.ts";
import { trainingPass } from "../../vorta/training_pass.ts";
import { BOUNDS, SCALAR_BOUNDS } from "../bounds.ts";
import { type Check, Checks, type ParityCase, References } from "../case.ts";

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
      using vorta = new VortaAttention(gpu, { heads, headDim, ownKeys: true }, layout, {
        tile: references.setting("tile"),
        window: references.setting("sliding_window"),
        bucket: references.setting("coreset_window"),
        rate: references.setting("reduction_rate"),
      });
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

/** `vorta_hunyuan_train`: losses and gradients by the authors' code, with the model in `tiny_hunyuan` beside it. */
export const vortaHunyuanTrain: ParityCase = {
  matches: /^vorta_hunyuan_train\.safetensors$/,
  async *run(path, { gpus: [gpu] }): AsyncIterable<Check> {
    using references = await References.open(path);
    const check = new Checks(path, gpu, references), folder = path.replace(/[^/]*$/, "tiny_hunyuan");
    using source = await openPart(folder, TRANSFORMER_WEIGHTS);
    const config = await readTransformerConfig(`${folder}/config.json`);
    using model = await HunyuanVideoTransformer3DModel.load(gpu, source, config);
    using owned = new TensorOwner(gpu);
    const upload = async (name: string) => owned.adopt(await references.upload(gpu, name));
    const [timestep] = await references.read("timestep"), [guidance] = await references.read("guidance");
    const router = Router.random(routerShape(model.shape), 0), gradients = router.zeros();
    for (const [name, { data }] of router.parameters()) data.set(await references.read(name));
    const temb = await model.timeEmbedding([timestep!]), scores = router.scores(temb);
    yield* check.rows("routing_scores", BOUNDS.routingScores, scores);
    const weights = references.setting<Record<"regularization" | "distillation" | "hidden", number>>("weights");
    const { losses, scoreGradients } = await trainingPass(gpu, model, {
      noisy: await upload("hidden_states"),
      target: await upload("target"),
      timestep: timestep!,
      conditioning: {
        text: await upload("encoder_hidden_states"),
        textLength: (await references.read("encoder_attention_mask")).filter((valid) => valid !== 0).length,
        pooled: await upload("pooled_projections"),
        guidance: guidance! / 1000,
      },
      scores,
      settings: settingsFromKwargs(references.setting("config"), "references"),
      weights: { diffusion: 1, ...weights },
    });
    const penalty = regularization(scores, config.heads);
    for (const [name, value] of Object.entries({ ...losses, regularization: penalty.loss })) {
      yield await check.relative(`loss.${name}`, SCALAR_BOUNDS.losses[name as keyof typeof losses], [value]);
    }
    const penalized = scoreGradients.map((g, i) => g + weights.regularization * penalty.gradients[i]!);
    router.backward(temb, scores, penalized, gradients);
    for (const [name, { data }] of gradients.parameters()) {
      yield* check.rows(`grad.${name}`, BOUNDS.routerGradient, data);
    }
  },
};
