import {
  aboveZero,
  aFunction,
  anAbortSignal,
  aNumber,
  aPath,
  aText,
  either,
  floats,
  instance,
  type Kind,
  type Kinds,
  listOf,
  objectWith,
  oneOf,
  optional,
  wholeNumber,
} from "../gpu/common/check_options.ts";
import { Gpu } from "../gpu/gpu.ts";
import { LARGEST_SEED } from "./noise.ts";
import type { EncodePromptsOptions, GenerateOptions, LoadOptions } from "./pipeline.ts";
import type { Picture } from "./picture/picture.ts";
import { SCHEDULER_KINDS } from "./schedulers/config.ts";
import { SIGMA_GRID_NAMES } from "./schedulers/sigmas.ts";
import { WEIGHT_DTYPE_CHOICES } from "./weights/weight_dtype.ts";
import { WEIGHTS_CHOICES } from "./blocks/weights_place.ts";

/** An open GPU. */
export const aGpu = instance(Gpu, "a Gpu, as openGpu opens it,");
/** A kind of attention. */
export const anAttention = objectWith("a kind of attention, as routedAttention or vedaAttention gives it,", {
  prepare: aFunction,
});

const aCache = objectWith("a step cache", { prepare: aFunction, tensors: aFunction });

const conditioning = either(floats, objectWith("a conditioning", { text: objectWith("a tensor", { data: floats }) }));

const aPicture = {
  expected: "a picture with width, height and rgb as Uint8Array of width · height · 3 samples",
  fits: (value: Partial<Picture> | undefined) =>
    value?.rgb instanceof Uint8Array && value.rgb.length > 0 && value.rgb.length === value.width! * value.height! * 3,
};

// deno-lint-ignore no-explicit-any
const namedValues = (fits: (value: any) => boolean): Kind => ({
  expected: "",
  fits: (values) => typeof values === "object" && values !== null && Object.values(values).every(fits),
});

const sides = { width: wholeNumber(1), height: wholeNumber(1), frames: wholeNumber(1) };

const isPlace = (value: unknown) => typeof value === "object" ? value !== null && "path" in value : aPath.fits(value);

/** Of {@link LoadOptions}. */
export const LOAD_KINDS: Kinds<LoadOptions> = {
  gpu: aGpu,
  parts: {
    expected: "an object that names a folder or a file for each part",
    fits: (value) => typeof value === "object" && value !== null && Object.values(value).every(isPlace),
  },
  previewVae: { expected: "a path, a file or a folder", fits: isPlace },
  textEncoder: { ...aFunction, expected: "a function that opens one, as onnxTextEncoder gives it," },
  weights: oneOf(WEIGHTS_CHOICES),
  weightDtype: oneOf(WEIGHT_DTYPE_CHOICES),
  adjust: either(
    aFunction,
    listOf(aFunction, "a function that opens what is added to the weights, or a list of such,"),
  ),
  clips: {
    ...listOf(
      objectWith("", {
        ...{ width: optional(sides.width), height: optional(sides.height), frames: optional(sides.frames) },
        ...{ guidance: optional(aNumber(0)), cache: optional(aCache) },
      }),
      "a list of clips, each with width, height and frames as whole numbers,",
    ),
  },
  onProgress: aFunction,
  signal: anAbortSignal,
};

/** Of {@link EncodePromptsOptions}. */
export const ENCODE_PROMPTS_KINDS: Kinds<EncodePromptsOptions> = {
  textTokens: wholeNumber(1),
  onProgress: aFunction,
  signal: anAbortSignal,
};

/** Of {@link GenerateOptions}. */
export const GENERATE_KINDS: Kinds<GenerateOptions> = {
  prompt: { ...aText, expected: "a text that says what to show" },
  negativePrompt: aText,
  embeddings: objectWith("an object with positive, and perhaps negative, as Float32Array", {
    positive: conditioning,
    negative: optional(conditioning),
  }),
  ...sides,
  fps: aboveZero,
  steps: wholeNumber(1),
  textTokens: wholeNumber(1),
  guidance: aNumber(0),
  guidanceLow: aNumber(0),
  image: aPicture,
  lastImage: aPicture,
  seed: wholeNumber(0, LARGEST_SEED),
  scheduler: oneOf(SCHEDULER_KINDS),
  flowShift: aboveZero,
  sigmas: {
    expected: `${SIGMA_GRID_NAMES.map((word) => `"${word}"`).join(", ")} or a list of numbers`,
    fits: (value) =>
      SIGMA_GRID_NAMES.includes(value) || Array.isArray(value) && value.every((sigma) => typeof sigma === "number"),
  },
  latents: {
    expected: "an object with data as Float32Array, and its shape",
    fits: (value) =>
      floats.fits(value?.data) && Array.isArray(value.shape) &&
      value.shape.reduce((a: number, b: number) => a * b, 1) === value.data.length,
  },
  onProgress: aFunction,
  onNote: aFunction,
  onStep: aFunction,
  onPreview: aFunction,
  onState: aFunction,
  stateInterval: aNumber(0),
  resumeFrom: objectWith("a state, as onState is given it,", {
    step: wholeNumber(0),
    steps: wholeNumber(1),
    tensors: namedValues(({ data, shape }) => floats.fits(data) && Array.isArray(shape)),
    numbers: namedValues((value) => typeof value === "number"),
  }),
  attention: anAttention,
  onAttention: aFunction,
  cache: aCache,
  onCache: aFunction,
  partner: objectWith("a partner of guidance with a name, and a function begin", { name: aText, begin: aFunction }),
  onClamped: aFunction,
  signal: anAbortSignal,
};
