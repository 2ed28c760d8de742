import type { GenerationDefaults } from "../../model/checkpoint/generation_defaults.ts";
import type { FamilyModel } from "../../model/family.ts";
import { fileIdentity } from "../../model/identity/file_identity.ts";
import { sizeLike } from "../../model/picture/fit.ts";
import { checkPictures } from "../../model/pictures_of_clip.ts";
import type { GenerateOptions } from "../../model/pipeline.ts";
import { readPicture } from "../../model/video/read/picture.ts";
import type { ImageValues } from "./clip/image_options.ts";

/** Pictures that were read. */
export interface ReadyImages {
  /** What `VideoPipeline.generate` takes of them. */
  readonly options: Pick<GenerateOptions, "image" | "lastImage">;
  /** Their names and digests, as the record of a clip has them. */
  readonly record: Readonly<Record<string, string>>;
  /** A model's defaults, with the size that the first picture asks for. */
  readonly defaults: GenerationDefaults;
}

/**
 * Reads the pictures that were named.
 *
 * @param pixels about how many a clip has that has the proportions of the first
 * @throws {TilereelError} with the `option`, if the model does not take them or needs others, or one cannot be read
 */
export async function readyImages(
  { image, "last-image": lastImage }: ImageValues,
  model: Pick<FamilyModel, "family" | "defaults">,
  pixels = model.defaults.width * model.defaults.height,
): Promise<ReadyImages> {
  checkPictures(model, { image, lastImage }, (option) => `name it with --${option} FILE`);
  const [first, last] = await Promise.all(
    [image, lastImage].map((file) => file === undefined ? file : readPicture(file)),
  );
  const { defaults, family: { multiples: { side } } } = model;
  return {
    options: { ...first && { image: first }, ...last && { lastImage: last } },
    record: { ...await fileIdentity("image", image), ...await fileIdentity("lastImage", lastImage) } as Record<
      string,
      string
    >,
    defaults: first ? { ...defaults, ...sizeLike(first, pixels, side) } : defaults,
  };
}
