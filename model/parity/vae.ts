import type { Gpu } from "../../gpu/gpu.ts";
import type { CausalAutoencoder } from "../vae/autoencoder.ts";
import type { Bounds } from "./bounds.ts";
import { type Check, Checks, type References } from "./case.ts";

/** A clip of a reference within −1…1. Some of diffusers' autoencoders leave it to the pipeline to clamp. */
export async function readClip(references: References, name: string): Promise<Float32Array> {
  return (await references.read(name)).map((v) => Math.min(Math.max(v, -1), 1));
}

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
  yield* checks.rows("decoded", bounds.decoded, decoded, { numbers: await readClip(references, "decoded") });
  for (const [name, tensor] of Object.entries({ mean, logvar })) yield* checks.rows(name, bounds.encoded, tensor);
  for (const tensor of [latents, clip, decoded, mean, logvar]) gpu.release(tensor);
}
