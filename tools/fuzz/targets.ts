import type { FuzzTarget } from "./target.ts";
import { gguf, index, lora, safetensors } from "./targets/checkpoints.ts";
import { conversions, loose } from "./targets/conversions.ts";
import { comparisons, dataset, info, records, status } from "./targets/folders.ts";
import { configs } from "./targets/models.ts";
import { clips, pictures } from "./targets/pictures.ts";
import { requests } from "./targets/requests.ts";
import { splitGuidance } from "./targets/split_guidance.ts";
import { commands, prompts, spiece, tokenizer } from "./targets/texts.ts";
import { torch } from "./targets/torch.ts";
import { embeddings, latents, router, states, tiles, training } from "./targets/trained.ts";

/** Everything that is read from outside, by the names that `deno task fuzz` takes. */
export const TARGETS: Readonly<Record<string, FuzzTarget>> = {
  ...{ safetensors, index, torch, gguf, lora, configs, tokenizer, spiece, pictures, clips, prompts, commands },
  ...{ latents, embeddings, router, states, tiles, training, records, comparisons, dataset, info, requests },
  "split-guidance": splitGuidance,
  ...{ conversions, loose, status },
};
