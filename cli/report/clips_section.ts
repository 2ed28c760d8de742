import { psnrOfError } from "../../model/video/quality.ts";
import type { Comparison } from "../compare/comparison.ts";
import { formatPsnr, formatSeconds } from "../compare/table.ts";
import type { EmbeddedPrompt } from "./embed.ts";
import { type Html, html } from "./html.ts";

/** An article per prompt with its clips side by side. play.js plays the videos of a `data-together` element in step. */
export function clipsSection({ prompts }: Comparison, embedded: readonly EmbeddedPrompt[]): Html {
  const left = prompts.length - embedded.length;
  return html`<section aria-labelledby="clips">
<div class="bar"><h2 id="clips">Clips</h2><button type="button" data-play hidden>Pause</button></div>
${embedded.map(article)}
${
    left === 0 ? undefined : html`<p class="note">The clips of ${left} more prompts are left out, because the page would
be too large: they are in its folder.</p>`
  }
</section>`;
}

function article(prompt: EmbeddedPrompt): Html {
  const { width, height, frames, fps, seed } = prompt;
  const room = `--clips: ${prompt.clips.length}; --width: ${width}px`;
  return html`
    <article>
      <h3>${prompt.prompt}</h3>
      <p class="note">seed ${seed}, ${width}×${height}, ${frames} frames at ${fps} a second</p>
      <div class="clips" style="${room}" data-together data-frame="${1 / fps}">
    ${prompt.clips.map((_, i) => figure(prompt, i))}</div>
    </article>
  `;
}

function figure(prompt: EmbeddedPrompt, index: number): Html {
  const { width, height } = prompt;
  const { setting, seconds } = prompt.clips[index]!;
  const { video, poster } = prompt.media[index]!;
  return html`
    <figure>
      <video src="${video}" poster="${poster}" width="${width}" height="${height}" preload="none" muted loop
        playsinline
        controls aria-label="${prompt.prompt}, made with ${setting}"></video>
      <figcaption><strong>${setting}</strong> ${formatSeconds(seconds.denoise)}${likeness(prompt, index)}</figcaption>
    </figure>
  `;
}

/** The caption that says how similar a clip is to the first one. */
function likeness({ clips }: EmbeddedPrompt, index: number): string {
  const { meanSquaredError, ssim } = clips[index]!;
  if (index === 0) return "";
  if (meanSquaredError === 0) return `, the same as ${clips[0]!.setting}`;
  return `, PSNR ${formatPsnr(psnrOfError(meanSquaredError))}, SSIM ${ssim.toFixed(3)}`;
}
