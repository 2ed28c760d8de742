/** By the names that other programs use, without leading dashes. */
const SENTENCES = new Map<string, string>();

function refuse(names: string, sentence: string): void {
  for (const name of names.split(" ")) SENTENCES.set(name, sentence);
}

refuse(
  "clip clip-l",
  "is not supported: only a model's first text encoder can be replaced, with --text-encoder",
);
refuse(
  "clip-vision high-noise-diffusion-model",
  "is not needed: a model's folder has its image encoder and both of its transformers",
);
refuse(
  "offload-model offload-to-cpu cpu-offload lowvram t5-cpu",
  "is not needed: weights that do not fit --memory are read from disk block by block; --weights stream always does so",
);
refuse(
  "vae-tiling vae-tile-size",
  "is not needed: the picture is decoded in tiles where --memory is too little for the whole",
);

/** What to say after the name of an option of other programs, with the alternative; undefined for any other name. */
export function notSupported(name: string): string | undefined {
  return SENTENCES.get(name.replaceAll("_", "-").toLowerCase());
}
