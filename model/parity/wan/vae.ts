import { openPart } from "../../checkpoint/open_part.ts";
import { VAE_WEIGHTS } from "../../wan/weights.ts";
import { AutoencoderKLWan } from "../../wan/vae/autoencoder.ts";
import { readVaeConfig } from "../../wan/vae/config.ts";
import { BOUNDS } from "../bounds.ts";
import { type Check, type ParityCase, partAt, References } from "../case.ts";
import { vaeChecks } from "../vae.ts";

/** Decoding and encoding: `demo_vae.safetensors`, and folders `tiny_vae*` and `tiny_wan22_vae*` with an autoencoder of their own. */
export const vae: ParityCase = {
  matches: /^(?:demo_vae\.safetensors$|tiny_vae|tiny_wan22_vae)/,
  async *run(path, context): AsyncIterable<Check> {
    const { folder, file, isTiny } = await partAt(path, "vae", context);
    const bounds = isTiny
      ? { decoded: BOUNDS.tinyVaeDecoded, encoded: BOUNDS.tinyVaeEncoded }
      : { decoded: BOUNDS.demoVaeDecoded, encoded: BOUNDS.demoVaeEncoded };
    using references = await References.open(file);
    using source = await openPart(folder, VAE_WEIGHTS);
    const config = await readVaeConfig(folder.file("config.json"));
    for (const gpu of context.gpus) {
      using model = await AutoencoderKLWan.load(gpu, source, config);
      yield* vaeChecks(path, gpu, references, model, bounds);
    }
  },
};
