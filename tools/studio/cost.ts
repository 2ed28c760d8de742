/// <reference lib="dom" />
import type { Estimate } from "../../cli/serve/estimate.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import { formatDuration } from "../program/format_duration.ts";
import { element } from "../web/elements.ts";
import { ask } from "./api.ts";

/** How long the form must be left alone before the server is asked. */
const PAUSE = 250;

/** What the settings of a form cost, as the server reckons while they change. */
export class Cost {
  readonly #facts = element("dl");
  readonly #note = element("p", { className: "note" });
  #timer: ReturnType<typeof setTimeout> | undefined;
  #asked: AbortController | undefined;

  /** @param values of the form */
  constructor(place: HTMLElement, private readonly values: () => Readonly<Record<string, unknown>>) {
    place.append(this.#facts, this.#note);
  }

  /** Asks the server in a moment, once for many changes. */
  update(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.show(), PAUSE);
  }

  /** Asks the server now. */
  async show(): Promise<void> {
    this.#asked?.abort();
    const { signal } = this.#asked = new AbortController();
    // What a clip shows costs nothing.
    const body = JSON.stringify({ ...this.values(), prompt: "any" });
    try {
      const headers = { "content-type": "application/json" };
      const estimate = await ask<Estimate>("/v1/estimates", { method: "POST", headers, body, signal });
      if (signal.aborted) return;
      this.#facts.replaceChildren(...factsOf(estimate));
      this.#say(estimate.obstacle ?? whence(estimate), estimate.obstacle !== null);
    } catch (error) {
      if (signal.aborted) return;
      this.#facts.replaceChildren();
      this.#say((error as Error).message, true);
    }
  }

  #say(text: string, isBad: boolean): void {
    this.#note.textContent = text;
    this.#note.classList.toggle("bad", isBad);
  }
}

function factsOf({ tokens, grid, density, seconds, from, memory, obstacle }: Estimate): HTMLElement[] {
  const about = from === "equal" ? "" : "about ";
  const facts = {
    Tokens: `${tokens.toLocaleString("en")} (${grid.join("×")})`,
    Density: density === null ? "unknown" : shareText(density),
    Time: seconds === null ? "unknown" : about + timeText(seconds),
    Memory: memory === null ? obstacle === null ? "unknown" : "does not fit" : formatBytes(memory),
  };
  return Object.entries(facts).map(([term, text]) => {
    const fact = element("div");
    fact.append(element("dt", { textContent: term }), element("dd", { textContent: text }));
    return fact;
  });
}

/** Where the time comes from. */
function whence({ from, clips, adapter, precision }: Estimate): string {
  const where = adapter === null ? "" : ` On ${adapter}, ${precision}.`;
  const made = `${clips} ${clips === 1 ? "clip" : "clips"}`;
  const why = {
    equal: `The time is that of ${made} with these settings.`,
    clips: `The time is reckoned from ${made} made here.`,
    gpu: "The time is computed from this GPU's data sheet.",
    none: "The time is known when a clip with such settings was made here.",
  };
  return why[from ?? "none"] + where;
}

/** A time as people say it, with tenths of a second where they count. */
export function timeText(seconds: number): string {
  return seconds < 10 ? `${seconds.toFixed(1)} s` : formatDuration(seconds);
}

/** A share in percent, with tenths where they count. */
export function shareText(share: number): string {
  return `${(100 * share).toFixed(share > 0.995 ? 0 : 1)} %`;
}
