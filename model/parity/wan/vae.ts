import { openPart } from "../../checkpoint/open_part.ts";
import { VAE_WEIGHTS } from "../../wan/weights.ts";
import { AutoencoderKLWan } from "../../wan/vae/autoencoder.ts";
import { readVaeConfig } from "../../wan/vae/config.ts";
import { BOUNDS } from "../bounds.ts";
import { type Check, Checks, type ParityCase, partAt, References } from "../case.ts";

/** Decoding and encoding: `demo_vae.safetensors`, and folders `tiny_vae*` with an autoencoder of their own. */
export const vae: ParityCase = {
  matches: /^(?:demo_vae\.safetensors$|tiny_vae)/,
  async *run(path, context): AsyncIterable<Check> {
    const { folder, file, isTiny } = await partAt(path, "vae", context);
    const [decodedBounds, encodedBounds] = isTiny
      ? [BOUNDS.tinyVaeDecoded, BOUNDS.tinyVaeEncoded]
      : [BOUNDS.demoVaeDecoded, BOUNDS.demoVaeEncoded];
    using references = await References.open(file);
    using source = await openPart(folder, VAE_WEIGHTS);
    const config = await readVaeConfig(folder.file("config.json"));
    for (const gpu of context.gpus) {
      using model = await AutoencoderKLWan.load(gpu, source, config);
      const latents = await references.upload(gpu, "latents"), clip = await references.upload(gpu, "clip");
      const decoded = await model.decode(latents);
      const { mean, logvar } = await model.encode(clip);
      for (const [name, tensor] of Object.entries({ decoded, mean, logvar })) {
        yield* new Checks(path, gpu, references).rows(name, name === "decoded" ? decodedBounds : encodedBounds, tensor);
      }
      for (const tensor of [latents, clip, decoded, mean, logvar]) gpu.release(tensor);
    }
  },
};
