/**
 * Options of other programs that tilereel does not have, with their alternatives.
 *
 * @module
 */

const SENTENCES = {
  image: "is not supported yet: tilereel renders from text only (Wan 2.1 text to video)",
  lora: "is not supported yet: merge the LoRA into the model's weights with another program and name that model with " +
    "--model",
  part: "is not supported: tilereel takes all parts from one folder in the diffusers layout, which --model names",
  cache: "is not supported yet: --attention veda or vorta makes steps faster",
  offload:
    "is not needed: weights that do not fit --memory are read from disk block by block; --weights stream always does so",
  tiling: "is not needed: the picture is decoded in tiles where --memory is too little for the whole",
  preview: "is not supported yet: progress is shown in steps; --steps 8 with a small --size gives a quick first look",
} as const;

/** By the names that other programs use, without leading dashes. */
const NAMES: Readonly<Record<string, keyof typeof SENTENCES>> = {
  image: "image",
  "init-img": "image",
  "init-image": "image",
  "input-image": "image",
  "first-frame": "image",
  "start-image": "image",
  "end-image": "image",
  "end-img": "image",
  i: "image",
  lora: "lora",
  loras: "lora",
  "lora-path": "lora",
  "lora-dir": "lora",
  "lora-model-dir": "lora",
  "lora-weights": "lora",
  vae: "part",
  t5xxl: "part",
  clip: "part",
  "clip-l": "part",
  "clip-vision": "part",
  "high-noise-diffusion-model": "part",
  "cache-mode": "cache",
  teacache: "cache",
  "teacache-thresh": "cache",
  easycache: "cache",
  "offload-model": "offload",
  "offload-to-cpu": "offload",
  "cpu-offload": "offload",
  lowvram: "offload",
  "t5-cpu": "offload",
  "vae-tiling": "tiling",
  "vae-tile-size": "tiling",
  preview: "preview",
  "preview-method": "preview",
  "preview-path": "preview",
  "preview-interval": "preview",
};

/** The message about an option, to put after its name; undefined for any other. */
export function notSupported(name: string): string | undefined {
  const known = name.replaceAll("_", "-").toLowerCase();
  return Object.hasOwn(NAMES, known) ? SENTENCES[NAMES[known]!] : undefined;
}
