import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import type { Family } from "../../model/family.ts";
import { MOST_PICTURE_BYTES } from "../../model/picture/limits.ts";
import { checkPictures } from "../../model/pictures_of_clip.ts";
import type { ImageValues } from "../../tools/program/clip/image_options.ts";
import { RequestError } from "./request_error.ts";

/** A picture that a clip is made of, as the option of `generate` that names its file. */
export type PictureName = keyof ImageValues;

/** Keys of a request that have pictures. The first is OpenAI's. */
const KEYS: Readonly<Record<string, PictureName>> = {
  input_reference: "image",
  image: "image",
  last_image: "last-image",
  "last-image": "last-image",
};

/** What OpenAI's client, and forms, call them. */
const MAIN_KEYS: Readonly<Record<PictureName, string>> = { image: "input_reference", "last-image": "last_image" };

/** Kinds of files that are taken: what decodes them takes no more memory than their pixels. */
const KINDS = [
  { ending: "png", type: "image/png", mark: /^\x89PNG/ },
  { ending: "jpg", type: "image/jpeg", mark: /^\xff\xd8\xff/ },
  { ending: "webp", type: "image/webp", mark: /^RIFF.{4}WEBP/s },
  { ending: "gif", type: "image/gif", mark: /^GIF8/ },
] as const;

/** The ending of a picture's file. */
export type PictureEnding = typeof KINDS[number]["ending"];

/** A picture of a request. */
export interface SentPicture {
  /** What the request calls it. */
  readonly key: string;
  readonly ending: PictureEnding;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

export type SentPictures = Readonly<Partial<Record<PictureName, SentPicture>>>;

/** The most bytes of the pictures of a request to a model. */
export function mostPictureBytes({ images }: Pick<Family, "images">): number {
  return MOST_PICTURE_BYTES * [images?.image, images?.lastImage].filter((need) => need && need !== "none").length;
}

/**
 * Takes the pictures out of a request.
 *
 * @returns its other keys, and the pictures. They are not decoded
 * @throws {RequestError} or {TilereelError} if the model takes none, or needs others, or one is no picture
 */
export async function takePictures(
  body: Readonly<Record<string, unknown>>,
  family: Pick<Family, "name" | "images">,
): Promise<{ fields: Readonly<Record<string, unknown>>; pictures: SentPictures }> {
  const entries = Object.entries(body), pictures: Partial<Record<PictureName, SentPicture>> = {};
  const given = entries.filter(([key, value]) => Object.hasOwn(KEYS, key) && !isNone(value));
  const names = given.map(([key]) => KEYS[key]!);
  const of = (name: PictureName) => (names.includes(name) ? true : undefined);
  checkPictures(
    { family: family as Family },
    { image: of("image"), lastImage: of("last-image") },
    (option) => `send it as the file ${MAIN_KEYS[option as PictureName]} of a form (multipart/form-data)`,
  );
  for (const [key, value] of given) {
    const name = KEYS[key]!;
    if (pictures[name]) {
      throw new RequestError(400, `give either ${quoted(key)} or ${quoted(pictures[name].key)}`, null, key);
    }
    pictures[name] = await sentPicture(key, value);
  }
  return { fields: Object.fromEntries(entries.filter(([key]) => !Object.hasOwn(KEYS, key))), pictures };
}

/** The media type of a picture's file, by its ending. */
export function pictureType(path: string): string {
  return KINDS.find(({ ending }) => path.endsWith(`.${ending}`))!.type;
}

/** An error about the file of a picture, as one about the key that it was sent as. */
export function aboutPicture(
  error: unknown,
  paths: Readonly<Partial<Record<PictureName, string>>>,
  sent: SentPictures,
) {
  if (!(error instanceof TilereelError)) return error;
  for (const [name, path] of Object.entries(paths) as [PictureName, string][]) {
    if (!error.message.includes(path)) continue;
    const { key } = sent[name]!;
    return new RequestError(400, error.message.replaceAll(path, `the picture ${quoted(key)}`), null, key);
  }
  return error;
}

/** A form without a file has an empty one. */
function isNone(value: unknown): boolean {
  return value === null || value === undefined || value instanceof Blob && value.size === 0;
}

async function sentPicture(key: string, value: unknown): Promise<SentPicture> {
  if (!(value instanceof Blob)) {
    const why = `${quoted(key)} must be a file: send the request as a form (multipart/form-data)`;
    throw new RequestError(400, why, null, key);
  }
  if (value.size > MOST_PICTURE_BYTES) {
    const most = `a picture may have ${MOST_PICTURE_BYTES} bytes at most, and ${quoted(key)} has ${value.size}`;
    throw new RequestError(413, most, "too_large", key);
  }
  const bytes = new Uint8Array(await value.arrayBuffer()), start = String.fromCharCode(...bytes.subarray(0, 12));
  const kind = KINDS.find(({ mark }) => mark.test(start));
  if (!kind) throw new RequestError(400, `${quoted(key)} is no PNG, JPEG, WebP or GIF: send one of these`, null, key);
  return { key, ending: kind.ending, bytes };
}
