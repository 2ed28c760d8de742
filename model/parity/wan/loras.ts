/**
 * Folders `tiny_lora*`: a small model with an update, which four files have in the layouts of as many programs.
 *
 * @module
 */
import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import { openPart } from "../../checkpoint/open_part.ts";
import { folderAt } from "../../files/disk.ts";
import { loraDeltas } from "../../lora/lora.ts";
import { readTransformerConfig } from "../../wan/config.ts";
import { WAN } from "../../wan/family.ts";
import { WanTransformer3DModel } from "../../wan/transformer.ts";
import { TRANSFORMER_WEIGHTS } from "../../wan/weights.ts";
import { openWeightOptions } from "../../weights/weight_options.ts";
import { BOUNDS } from "../bounds.ts";
import { type Check, Checks, type ParityCase, References } from "../case.ts";
import { passOf } from "./transformer.ts";

/** A forward pass without the update, and one with each of the files. */
export const loras: ParityCase = {
  matches: /^tiny_lora/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(`${path}/reference.safetensors`);
    const strength = references.setting<number>("strength");
    const runs: [reference: string, file?: string][] = [
      ["base"],
      ...references.setting<string[]>("files").map((file): [string, string] => ["merged", file]),
      ["merged_with_differences", references.setting<string>("with_differences")],
    ];
    const folder = folderAt(path), config = await readTransformerConfig(folder.file("config.json"));
    for (const gpu of gpus) {
      for (const [reference, file] of runs) {
        using source = await openPart(folder, TRANSFORMER_WEIGHTS);
        const adjust = file === undefined ? [] : loraDeltas([{ file: `${path}/${file}.safetensors`, strength }]);
        using deltas = await openWeightOptions(gpu, WAN, { adjust });
        using model = await WanTransformer3DModel.load(gpu, source, config, deltas.of("transformer"));
        using owned = new TensorOwner(gpu);
        const [velocity] = owned.adopt(await model.predict([await passOf(owned, references, config)]));
        yield* new Checks(path, gpu, references).rows(file ?? reference, BOUNDS.lora, velocity!, { reference });
      }
    }
  },
};
