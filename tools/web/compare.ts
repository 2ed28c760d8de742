/// <reference lib="dom" />
import type { Video } from "../../model/mod.ts";
import { element } from "./elements.ts";
import type { Player } from "./player.ts";

/** Two clips over one another: a slider wipes between them, and a switch shows what differs. */
export class Wipe {
  readonly #canvases = [element("canvas"), element("canvas"), element("canvas")] as const;
  readonly #split = element("input", { type: "range", min: "0", max: "100", value: "50" });
  readonly #difference = element("input", { type: "checkbox" });
  readonly #names = element("p", { className: "note" });

  constructor(place: HTMLElement, private readonly player: Player) {
    const stack = element("div", { className: "stack" });
    stack.append(...this.#canvases);
    const wipe = element("label", { textContent: "Wipe from the one to the other" });
    wipe.append(this.#split);
    const difference = element("label");
    difference.append(this.#difference, " Show the difference, four times as strong");
    this.#split.addEventListener("input", () => this.#arrange());
    this.#difference.addEventListener("change", () => this.#arrange());
    place.append(this.#names, stack, wipe, difference);
  }

  /** @param right drawn over the left one; of the same size */
  show(left: Video, right: Video, names: readonly [string, string]): void {
    const [under, over, between] = this.#canvases;
    this.player.show(under, left);
    this.player.show(over, right);
    this.player.show(between, difference(left, right));
    this.#names.textContent = `Left: ${names[0]}. Right: ${names[1]}.`;
    this.#arrange();
  }

  hide(): void {
    for (const canvas of this.#canvases) this.player.remove(canvas);
  }

  #arrange(): void {
    const [, over, between] = this.#canvases;
    over.style.clipPath = `inset(0 0 0 ${this.#split.value}%)`;
    between.hidden = !this.#difference.checked;
  }
}

/** Four times the difference of two clips around middle gray. */
function difference(a: Video, b: Video): Video {
  const data = Uint8Array.from(a.data, (value, i) => Math.max(0, Math.min(255, 128 + 4 * (value - b.data[i]!))));
  return { ...a, data };
}

/** Whether two clips can be laid over one another. */
export function comparable(a: Video, b: Video): boolean {
  return a.width === b.width && a.height === b.height && a.frames === b.frames;
}
