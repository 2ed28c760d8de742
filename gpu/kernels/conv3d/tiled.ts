/**
 * Convolutions for GPUs, as matrix products whose matrices never exist in memory, by ordinary arithmetic or matrix
 * units.
 *
 * @module
 */
import { type KernelSource, read } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { FORMATS } from "../../formats/formats.ts";
import { type MatrixBy, matrixProduct, matrixTileName } from "../product/matrix.ts";
import { type TiledBy, tiledProduct, tileName } from "../product/tiled.ts";
import { CONV3D_BUFFERS, CONV3D_PARAMS, type Conv3dShape, shapeName } from "./shape.ts";
import { conv3dLoader } from "./loader.ts";

const STORE = `
fn store(m: u32, n: u32, sums: vec4f) {
  let area = p.height * p.width;
  if (m >= p.frames * area || n >= p.channels) { return; }
  let frame = (m / area) * (p.channels / p.frame_channels) + n / p.frame_channels;
  let at = ((frame * area + m % area) * p.frame_channels + n % p.frame_channels) / 4u;
  var v = sums + bias[n / 4u];
  if (p.has_residual != 0u) { v += residual[at]; }
  y[at] = v;
}`;

const store = (m: string, n: string, sums: string) => `store(${m}, ${n}, ${sums});`;

/** Makes the kernel that uses ordinary arithmetic: pixels along m, channels along n. */
export const conv3dTiled = memo(({ tile, format, ...shape }: Conv3dShape & TiledBy): KernelSource => {
  const product = tiledProduct(tile, format, {
    loader: conv3dLoader({
      ...shape,
      depth: tile.depth / 4,
      length: "p.c4",
      x: (at) => `x[${at}]`,
      w: (at) => `weight[${at}]`,
    }),
    elements: ["vec4f", "vec4f"],
    unpack: (element) => element,
    store,
  });
  return {
    name: `conv3d_${tileName(tile, format)}_${shapeName(shape)}`,
    buffers: CONV3D_BUFFERS,
    params: CONV3D_PARAMS,
    ...product,
    declarations: `${product.declarations}${STORE}`,
  };
});

/**
 * Makes the kernel that uses matrix units: pixels along m, channels along n. The number of input channels must be a
 * multiple of 8. With a `packed` tile, x and weight are f16.
 */
export const conv3dMatrix = memo(({ tile, units, ...shape }: Conv3dShape & MatrixBy): KernelSource => {
  const { element, value, read: readEight, halves } = FORMATS[tile.packed ? "f16" : "f32"].read.eight;
  const product = matrixProduct(tile, units, {
    loader: conv3dLoader({
      ...shape,
      depth: tile.depth * units.k / 8,
      length: "(p.c4 / 2u)",
      x: (at) => readEight("x", at),
      w: (at) => readEight("weight", at),
    }),
    elements: [value, value],
    halves: ["halves", "halves"],
    store,
  });
  return {
    name: `conv3d_${matrixTileName(tile)}_${shapeName(shape)}`,
    buffers: { ...CONV3D_BUFFERS, x: read(element), weight: read(element) },
    params: CONV3D_PARAMS,
    ...product,
    declarations: `${product.declarations}${halves("halves")}${STORE}`,
  };
});
