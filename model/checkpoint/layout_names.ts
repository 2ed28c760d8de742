import type { FusedTensor, PartWeights } from "../family.ts";

/** Prefixes of names: of ComfyUI, PEFT and Kohya. */
const PREFIX = /^(model\.diffusion_model\.|diffusion_model\.|model\.|base_model\.model\.|transformer\.|lora_unet_)/;

/** The layers of a kind of block, or those outside of blocks. */
export interface LayersOfLayout {
  /** What names of blocks begin with before their number: in the other layout, and in the family's. */
  readonly blocks?: readonly [other: string, family: string];
  /** By the names of the other layout: the family's name, or the parts that the layer consists of. */
  readonly layers: Readonly<Record<string, string | readonly FusedTensor[]>>;
}

/**
 * Makes the family's names of tensors in checkpoints and LoRAs of other programs. These have the names of the other
 * layout or the family's, and some a prefix. Kohya's LoRAs have "_" in place of all dots. A name that is not known is
 * returned as it is, but without the prefix.
 *
 * @param kinds the last has no `blocks`
 * @param prefix a further one, which is removed after those that many files have
 */
export function layoutNames(kinds: readonly LayersOfLayout[], prefix = /^/): NonNullable<PartWeights["names"]> {
  const all = kinds.map(({ blocks, layers }) => ({
    start: new RegExp(blocks ? `^(?:${blocks.join("|").replaceAll(".", "[._]")})[._](\\d+)[._]` : "^"),
    inBlock: (number?: string) => blocks ? `${blocks[1]}.${number}.` : "",
    byName: new Map(
      Object.entries(layers).flatMap(([other, layer]): [string, string | readonly FusedTensor[]][] => [
        ...(typeof layer === "string" ? [layer] : layer.map(({ name }) => name)).map((name) =>
          [flat(name), name] as [string, string]
        ),
        [flat(other), layer],
      ]),
    ),
  }));
  return (stored) => {
    const name = stored.replace(PREFIX, "").replace(prefix, ""),
      { start, inBlock, byName } = all.find(({ start }) => start.test(name))!;
    const [before, number] = start.exec(name)!;
    const [, layer, ending = ""] = /^(.+?)(\.(?:weight|bias))?$/s.exec(name.slice(before.length))!;
    const whole = (name: string) => inBlock(number) + name + ending, found = byName.get(flat(layer!));
    if (found === undefined) return before.includes(".") ? name : whole(layer!);
    return typeof found === "string" ? whole(found) : found.map((part) => ({ ...part, name: whole(part.name) }));
  };
}

/** For {@link LayersOfLayout.layers}: names that are the family's own, where only Kohya's differ from them. */
export function sameNames(...layers: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(layers.map((name) => [name, name]));
}

function flat(name: string): string {
  return name.replaceAll(".", "_");
}
