/**
 * The variants of products of panels, in f16 and in int8.
 *
 * @module
 */
import type { Gpu } from "../../gpu.ts";
import type { MatrixUnits } from "../../matrix_units.ts";
import { ENOUGH_TILES, type Launch } from "../product/variants.ts";
import type { Output } from "./epilogue.ts";
import type { OperandForms } from "./operand_form.ts";
import type { PanelNumbers } from "./pack.ts";
import { gemmPanels } from "./panel_matrix.ts";
import { type PanelLayout, panelLayout, panelShapes, type PanelTile, panelTileName } from "./panel_tile.ts";

/** A way to compute a product of panels by matrix units. */
export interface PanelVariant {
  readonly by: "panels";
  readonly numbers: PanelNumbers;
  readonly tile: PanelTile;
}

/** For large products. They start with the best guess for a large GPU. */
const TILES: readonly PanelTile[] = [
  { subgroups: [2, 2], units: [5, 4], depth: 2 },
  { subgroups: [2, 2], units: [4, 4], depth: 2 },
];

/** For small products: a large tile reads less, but too few tiles leave a GPU idle. */
const SMALL: PanelTile = { subgroups: [2, 2], units: [2, 2], depth: 2 };

/** The variants for large products that fit the device, by name; none where it has no matrix units for these numbers. */
export function panelVariants(gpu: Gpu, numbers: PanelNumbers): ReadonlyMap<string, PanelVariant> {
  const fitting = TILES.filter((tile) => fits(gpu, { by: "panels", numbers, tile }));
  return new Map(fitting.map((tile) => [panelTileName(tile, numbers), { by: "panels", numbers, tile }]));
}

/** The variant for small products, where the device can compute them. */
export function smallPanels(gpu: Gpu, numbers: PanelNumbers): PanelVariant | undefined {
  const variant = { by: "panels", numbers, tile: SMALL } as const;
  return fits(gpu, variant) ? variant : undefined;
}

/**
 * With an inner axis no longer than this, a product writes about as long as it multiplies. More workgroups at once hide
 * that, so that small tiles are faster, however many there are.
 */
const SHORT_INNER_AXIS = 256;

/** The variant for many outputs of a short inner axis, where the device can compute them. */
export function shortPanels(
  gpu: Gpu,
  numbers: PanelNumbers,
  { m, n, k }: { readonly m: number; readonly n: number; readonly k: number },
): PanelVariant | undefined {
  const small = k <= SHORT_INNER_AXIS ? smallPanels(gpu, numbers) : undefined;
  return small && panelGroups(gpu, small, m, n).reduce((a, b) => a * b) >= ENOUGH_TILES ? small : undefined;
}

/** The layouts of tiles, by a device's matrix units: each product asks for some. */
const LAYOUTS = new WeakMap<MatrixUnits, Map<PanelTile, Partial<Record<PanelNumbers, PanelLayout | "none">>>>();

function layoutOf({ matrixUnits: units }: Gpu, { tile, numbers }: PanelVariant): PanelLayout | undefined {
  if (!units) return undefined;
  let ofUnits = LAYOUTS.get(units);
  if (!ofUnits) LAYOUTS.set(units, ofUnits = new Map());
  let ofTile = ofUnits.get(tile);
  if (!ofTile) ofUnits.set(tile, ofTile = {});
  const layout = ofTile[numbers] ??= panelLayout({ tile, numbers, units }) ?? "none";
  return layout === "none" ? undefined : layout;
}

function fits(gpu: Gpu, variant: PanelVariant): boolean {
  const { maxThreads, device: { limits: { maxComputeWorkgroupStorageSize } } } = gpu, layout = layoutOf(gpu, variant);
  return layout !== undefined && layout.threads <= maxThreads && layout.bytes <= maxComputeWorkgroupStorageSize;
}

/** The forms in which a variant reads its operands. */
export function panelForms(gpu: Gpu, variant: PanelVariant): OperandForms {
  const { x, w } = panelShapes(layoutOf(gpu, variant)!), { numbers } = variant;
  return { x: { numbers, panel: x }, w: { numbers, panel: w } };
}

/** The numbers of workgroups along each axis. */
export function panelGroups(gpu: Gpu, variant: PanelVariant, m: number, n: number): Launch["workgroups"] {
  const [tileM, tileN] = layoutOf(gpu, variant)!.tile;
  return [Math.ceil(n / tileN), Math.ceil(m / tileM), 1];
}

/** The kernel for a product of m×n outputs. */
export function panelLaunch(
  gpu: Gpu,
  { m, n }: { readonly m: number; readonly n: number },
  variant: PanelVariant,
  output: Output,
): Launch {
  const { tile, numbers } = variant;
  return {
    kernel: gemmPanels({ tile, numbers, units: gpu.matrixUnits!, output }),
    workgroups: panelGroups(gpu, variant, m, n),
  };
}
