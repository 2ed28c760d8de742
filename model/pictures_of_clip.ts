import { TilereelError } from "../gpu/common/errors.ts";
import type { FamilyModel } from "./family.ts";
import { croppedShare } from "./picture/fit.ts";
import type { Picture } from "./picture/picture.ts";
import type { ClipSize } from "./video_size.ts";

/** The pictures that a clip is made of. */
export interface ClipPictures {
  /** What it begins with. */
  readonly image?: Picture | undefined;
  /** What it ends with. */
  readonly lastImage?: Picture | undefined;
}

/** Whether a model needs a picture. */
export type Need = "required" | "optional" | "none";

/** Which pictures a model takes. */
export interface ImageNeeds {
  readonly image: Need;
  readonly lastImage: Need;
}

/** Of each picture: its option's name, and what it is. */
const WORDS = {
  image: { option: "image", what: "a picture to begin with" },
  lastImage: { option: "last-image", what: "a picture to end with" },
} as const;

/**
 * Checks that a model takes the pictures that are given, and has those that it needs.
 *
 * @param remedy what to do where one is missing, which has this option
 * @throws {TilereelError} with the `option`, if not
 */
export function checkPictures(
  { family: { name, images } }: Pick<FamilyModel, "family">,
  given: Readonly<Partial<Record<keyof ClipPictures, unknown>>>,
  remedy = (_option: string) => "give it one",
): void {
  for (const key of ["image", "lastImage"] as const) {
    const { option, what } = WORDS[key], need = images?.[key] ?? "none", isGiven = given[key] !== undefined;
    if (need === "required" && !isGiven) {
      throw new TilereelError(`a model of ${name} needs ${what}: ${remedy(option)}`, { option });
    }
    if (need === "none" && isGiven) {
      throw new TilereelError(
        `a model of ${name} takes no picture${key === "image" ? "" : " to end with"}: leave it out`,
        {
          option,
        },
      );
    }
  }
  if (given.lastImage !== undefined && given.image === undefined) {
    throw new TilereelError(`a clip that ends with a picture begins with one, too: ${remedy("image")}`, {
      option: "image",
    });
  }
}

/** The share of a picture below which nobody misses what is cut off. */
const UNNOTICED = 0.02;

/** Clauses that say how pictures are made to fit a clip, where they lose something or are enlarged. */
export function pictureNotes(given: ClipPictures, { width, height }: Pick<ClipSize, "width" | "height">): string[] {
  return [given.image, given.lastImage].flatMap((picture) => {
    if (!picture) return [];
    const lost = croppedShare(picture, width, height), size = `${picture.width}x${picture.height}`;
    return [
      ...lost > UNNOTICED
        ? [
          `the picture of ${size} is scaled to cover ${width}x${height} and cropped round its centre, which cuts off ` +
          `${Math.round(100 * lost)} % of it`,
        ]
        : [],
      ...Math.max(width / picture.width, height / picture.height) > 1
        ? [`the picture of ${size} is smaller than the clip and is enlarged`]
        : [],
    ];
  });
}
