import { openPart } from "../../checkpoint/open_part.ts";
import { AutoencoderKLHunyuanVideo } from "../../hunyuan/vae/autoencoder.ts";
import { readVaeConfig } from "../../hunyuan/vae/config.ts";
import { VAE_WEIGHTS } from "../../hunyuan/weights.ts";
import { BOUNDS } from "../bounds.ts";
import { type Check, Checks, type ParityCase, partAt, References } from "../case.ts";
import { readClip, vaeChecks } from "../vae.ts";

/** Decoding and encoding, as a whole and in tiles: folders `tiny_hunyuan_vae*`, with an autoencoder of their own. */
export const hunyuanVae: ParityCase = {
  matches: /^tiny_hunyuan_vae/,
  async *run(path, context): AsyncIterable<Check> {
    const { folder, file } = await partAt(path, "vae", context);
    using references = await References.open(file);
    using source = await openPart(folder, VAE_WEIGHTS);
    const config = await readVaeConfig(folder.file("config.json"));
    for (const gpu of context.gpus) {
      using vae = await AutoencoderKLHunyuanVideo.load(gpu, source, config);
      const bounds = { decoded: BOUNDS.tinyHunyuanVaeDecoded, encoded: BOUNDS.tinyHunyuanVaeEncoded };
      yield* vaeChecks(path, gpu, references, vae, bounds);
      const tiling = { tiling: true, tileSize: 32, tileStride: 24 }, checks = new Checks(path, gpu, references);
      const latents = await references.upload(gpu, "tiled.latents"),
        numbers = await readClip(references, "tiled.decoded");
      const decoded = await vae.decode(latents, tiling);
      yield* checks.rows("tiled.decoded", bounds.decoded, decoded, { numbers });
      const clip = gpu.upload(numbers, decoded.shape), { mean, logvar } = await vae.encode(clip, tiling);
      yield* checks.rows("tiled.mean", bounds.encoded, mean);
      yield* checks.rows("tiled.logvar", bounds.encoded, logvar);
      for (const tensor of [latents, decoded, clip, mean, logvar]) gpu.release(tensor);
    }
  },
};
