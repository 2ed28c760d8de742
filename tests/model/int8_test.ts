import { assert, assertEquals } from "@std/assert";
import { Gpu } from "../../gpu/gpu.ts";
import { relativeError } from "../../gpu/relative_error.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { FullAttention } from "../../model/attention/full.ts";
import { openPart } from "../../model/checkpoint/open_part.ts";
import type { TensorSource } from "../../model/checkpoint/tensor_source.ts";
import * as hunyuan from "../../model/hunyuan/config.ts";
import { HunyuanVideoTransformer3DModel } from "../../model/hunyuan/transformer.ts";
import { TRANSFORMER_WEIGHTS as OF_HUNYUAN } from "../../model/hunyuan/weights.ts";
import { References } from "../../model/parity/case.ts";
import { passOf as passOfHunyuan } from "../../model/parity/hunyuan/transformer.ts";
import { passOf as passOfWan } from "../../model/parity/wan/transformer.ts";
import * as wan from "../../model/wan/config.ts";
import { WanTransformer3DModel } from "../../model/wan/transformer.ts";
import { TRANSFORMER_WEIGHTS as OF_WAN } from "../../model/wan/weights.ts";
import { weightsOnGpu } from "../../model/weights/weight_dtype.ts";
import type { WeightOptions } from "../../model/weights/weight_options.ts";
import { testVariants } from "../gpu.ts";

const FIXTURES = new URL("../fixtures/", import.meta.url).pathname;

/** What a model predicts of its references' inputs. */
type Predict = (
  owned: TensorOwner,
  source: TensorSource,
  config: string,
  references: References,
  options: WeightOptions,
) => Promise<Tensor>;

const ofWan: Predict = async (owned, source, config, references, options) => {
  const read = await wan.readTransformerConfig(config);
  using model = await WanTransformer3DModel.load(owned.gpu, source, read, options);
  return owned.adopt(await model.predict([await passOfWan(owned, references, read)]))[0]!;
};

const ofHunyuan: Predict = async (owned, source, config, references, options) => {
  const { gpu } = owned;
  using model = await HunyuanVideoTransformer3DModel.load(
    gpu,
    source,
    await hunyuan.readTransformerConfig(config),
    options,
  );
  const pass = await passOfHunyuan(owned, references);
  using full = new FullAttention(gpu, model.shape, model.layout(pass.latents.shape, pass.conditioning));
  const selfAttention = (q: Tensor, k: Tensor, v: Tensor) => full.attend(q, k, v);
  return owned.adopt(await model.predict([{ ...pass, selfAttention }]))[0]!;
};

/** Relative errors as measured against diffusers in f32: of int8 weights that are decoded, and of int8 products. */
const MODELS = [
  ["tiny_hd128", OF_WAN, ofWan, [1.4e-3, 2.07e-3]],
  ["tiny_hunyuan", OF_HUNYUAN, ofHunyuan, [6.7e-3, 9.06e-3]],
] as const;

for (const [name, weights, predict, errors] of MODELS) {
  testVariants(`the transformer of ${name} in int8 is near to diffusers' in f32`, async ({ gpu: float }) => {
    const dir = `${FIXTURES}${name}`;
    using source = await openPart(dir, weights);
    using references = await References.open(`${dir}/reference.safetensors`);
    const options = { dtype: "int8", quantised: weights.quantised } as const;
    const tensors = source.names().map((name) => source.info(name));
    assertEquals(weightsOnGpu(float, tensors, options).held[0], "i8");
    const expected = await references.read("output"), found: number[] = [];
    for (const int8 of [false, true]) {
      const gpu = new Gpu(float.device, { ...float.settings, int8 });
      using owned = new TensorOwner(gpu);
      const velocity = await predict(owned, source, `${dir}/config.json`, references, options);
      found.push(relativeError(await gpu.read(velocity), expected));
    }
    const near = found.every((error, i) => error < 1.2 * errors[i]! && error > 0.8 * errors[i]!);
    assert(near, `relative errors ${found}, and not ${errors}`);
  });
}
