import type { Gpu } from "../../gpu/gpu.ts";
import type { CausalAutoencoder } from "../vae/autoencoder.ts";
import type { Bounds } from "./bounds.ts";
import { type Check, Checks, type References } from "./case.ts";

/** Checks an autoencoder: decodes the reference's latents and encodes its clip. */
export async function* vaeChecks(
  path: string,
  gpu: Gpu,
  references: References,
  vae: CausalAutoencoder,
  bounds: { readonly decoded: Bounds; readonly encoded: Bounds },
): AsyncIterable<Check> {
  const latents = await references.upload(gpu, "latents"), clip = await references.upload(gpu, "clip");
  const decoded = await vae.decode(latents);
  const { mean, logvar } = await vae.encode(clip);
  const checks = new Checks(path, gpu, references);
  // Some of diffusers' autoencoders leave it to the pipeline to clamp.
  const numbers = (await references.read("decoded")).map((v) => Math.min(Math.max(v, -1), 1));
  yield* checks.rows("decoded", bounds.decoded, decoded, { numbers });
  for (const [name, tensor] of Object.entries({ mean, logvar })) yield* checks.rows(name, bounds.encoded, tensor);
  for (const tensor of [latents, clip, decoded, mean, logvar]) gpu.release(tensor);
}
