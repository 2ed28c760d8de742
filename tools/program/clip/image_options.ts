import { inGroup, ofClip, type OptionValues, path } from "../options.ts";

/** The options of image to video. */
export const imageOptions = ofClip(inGroup("Clip", {
  image: path({
    value: "FILE",
    help:
      "The picture that the clip begins with, for models of image to video: a PNG, JPEG or WebP. It is scaled and " +
      "cropped to the clip's size.",
    elsewhere: ["i", "image-path", "init-img", "init-image", "input-image", "first-frame", "start-image"],
  }),
  "last-image": path({
    value: "FILE",
    help: "The picture that the clip ends with, for models that make the way from one to the other.",
    elsewhere: ["end-img", "end-image", "last-frame", "tail-image"],
  }),
}));

/** Values of {@linkcode imageOptions} that were given. */
export type ImageValues = OptionValues<typeof imageOptions>;
