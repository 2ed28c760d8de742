import type { Comparison } from "../compare/comparison.ts";
import { cells, COLUMNS, type Row, tableOf } from "../compare/table.ts";
import { type Html, html } from "./html.ts";

/** The table of figures has one row per setting; a note explains the figures. */
export function figuresSection({ prompts, settings }: Comparison): Html {
  const rows = tableOf(prompts);
  // The roles are repeated because browsers drop them where the style sheet changes the display of table elements.
  return html`
    <section aria-labelledby="figures">
      <h2 id="figures">Figures</h2>
      <div class="figures scroll" role="region" aria-labelledby="figures" tabindex="0">
        <table role="table">
          <thead role="rowgroup">
            <tr role="row">${["setting", ...COLUMNS].map(columnHeader)}</tr>
          </thead>
          <tbody role="rowgroup">${rows.map((row, i) => tableRow(row, i === 0))}</tbody>
        </table>
      </div>
      <p class="note">${explanation(prompts.length, settings[0]!.name)}</p>
    </section>
  `;
}

function columnHeader(name: string): Html {
  return html`<th role="columnheader" scope="col">${name}</th>`;
}

function tableRow(row: Row, isReference: boolean): Html {
  const figures = cells(row, isReference).map((text, column) =>
    html`<td role="cell" data-column="${COLUMNS[column]}">${text}</td>`
  );
  return html`<tr role="row"><th role="rowheader" scope="row">${row.setting}</th>${figures}</tr>`;
}

function explanation(count: number, reference: string): string {
  const over = count === 1 ? "" : ` All figures are over ${count} prompts.`;
  return `Denoising: seconds per clip for all steps. Total: also with encoding the prompt, preparing attention and ` +
    `decoding, but without writing files. Each setting ran once before to compile its kernels, which is not counted. ` +
    `Speed: denoising time of ${reference} divided by that of the setting. Density: share of the pairs of queries and ` +
    `keys that self-attention multiplied. Blocks: share of the transformer's blocks that were run, which a step cache ` +
    `lowers. PSNR and SSIM: similarity to the clips of ${reference}, in 8-bit RGB and in ` +
    `luma; a lower value means a different clip, not a worse one.${over}`;
}
