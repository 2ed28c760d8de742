/**
 * `demo_vae.safetensors`, and folders `tiny_vae*` with an autoencoder of their own.
 *
 * @module
 */
import { openModelFolder } from "../../checkpoint/model_folder.ts";
import { openPart } from "../../checkpoint/open_part.ts";
import { VAE_WEIGHTS } from "../../wan/weights.ts";
import { folderAt } from "../../files/disk.ts";
import type { FileStore } from "../../files/store.ts";
import { AutoencoderKLWan } from "../../wan/vae/autoencoder.ts";
import { readVaeConfig } from "../../wan/vae/config.ts";
import { BOUNDS, type Bounds } from "../bounds.ts";
import { type Check, Checks, type ParityCase, type ParityContext, References } from "../case.ts";

/** Decoding and encoding with the model under test. */
export const demoVae: ParityCase = {
  matches: /^demo_vae\.safetensors$/,
  async *run(path, context): AsyncIterable<Check> {
    const folder = await (await openModelFolder(context.model)).component("vae");
    yield* compare(path, folder, path, BOUNDS.demoVaeDecoded, BOUNDS.demoVaeEncoded, context);
  },
};

/** Decoding and encoding with a small model at odd sizes. */
export const tinyVae: ParityCase = {
  matches: /^tiny_vae/,
  async *run(path, context): AsyncIterable<Check> {
    yield* compare(
      path,
      folderAt(path),
      `${path}/reference.safetensors`,
      BOUNDS.tinyVaeDecoded,
      BOUNDS.tinyVaeEncoded,
      context,
    );
  },
};

async function* compare(
  path: string,
  folder: FileStore,
  file: string,
  decodedBounds: Bounds,
  encodedBounds: Bounds,
  { gpus }: ParityContext,
): AsyncIterable<Check> {
  using references = await References.open(file);
  using source = await openPart(folder, VAE_WEIGHTS);
  const config = await readVaeConfig(folder.file("config.json"));
  for (const gpu of gpus) {
    const vae = await AutoencoderKLWan.load(gpu, source, config);
    const latents = await references.upload(gpu, "latents"), clip = await references.upload(gpu, "clip");
    const decoded = await vae.decode(latents);
    const { mean, logvar } = await vae.encode(clip);
    for (const [name, tensor] of Object.entries({ decoded, mean, logvar })) {
      yield* new Checks(path, gpu, references).rows(name, name === "decoded" ? decodedBounds : encodedBounds, tensor);
    }
    for (const tensor of [latents, clip, decoded, mean, logvar]) gpu.release(tensor);
    vae[Symbol.dispose]();
  }
}
