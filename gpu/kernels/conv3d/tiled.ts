/**
 * Convolutions for GPUs, as matrix products whose matrices never exist in memory, by ordinary arithmetic or matrix
 * units.
 *
 * @module
 */
import { type KernelSource, read, write } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { f16 } from "../../formats/f16.ts";
import { type MatrixBy, matrixProduct, matrixTileName } from "../product/matrix.ts";
import { type TiledBy, tiledProduct, tileName } from "../product/tiled.ts";
import { CONV3D_BUFFERS, CONV3D_PARAMS, type Conv3dShape, shapeName } from "./shape.ts";
import { conv3dLoader } from "./loader.ts";
import { STORE } from "./store.ts";

const store = (m: string, n: string, sums: string) => `store(${m}, ${n}, ${sums});`;

/** What {@link conv3dTiled} is made for. */
export interface Conv3dTiled extends Conv3dShape, TiledBy {
  /** Whether x and weight are f16. */
  readonly halves: boolean;
}

/** Makes the kernel that uses ordinary arithmetic: pixels along m, channels along n. */
export const conv3dTiled = memo(({ tile, format, halves, ...shape }: Conv3dTiled): KernelSource => {
  const element = halves ? "vec4h" : "vec4f";
  const product = tiledProduct(tile, format, {
    loader: conv3dLoader({
      ...shape,
      depth: tile.depth / 4,
      length: "p.c4",
      x: (at) => `x[${at}]`,
      w: (at) => `weight[${at}]`,
    }),
    elements: [element, element],
    unpack: (element) => element,
    store,
  });
  return {
    name: `conv3d_${tileName(tile, format)}${halves ? "_halves" : ""}_${shapeName(shape)}`,
    buffers: { ...CONV3D_BUFFERS, x: read(element), weight: read(element) },
    params: CONV3D_PARAMS,
    ...product,
    f16: product.f16 || halves,
    declarations: `${product.declarations}${STORE}`,
  };
});

/**
 * Makes the products of a convolution in Winograd's domain (see `winograd.ts`): a convolution in time alone, for each of
 * the positions along z, whose operands and outputs follow one another.
 */
export const conv3dPositions = memo(
  ({ tile, format, replicate }: TiledBy & Pick<Conv3dShape, "replicate">): KernelSource => {
    const product = tiledProduct(tile, format, {
      loader: conv3dLoader({
        ...{ stride: 1, up: 1, replicate },
        depth: tile.depth / 4,
        length: "p.c4",
        x: (at) => `x[wid.z * p.x_size + ${at}]`,
        w: (at) => `weight[wid.z * p.weight_size + ${at}]`,
      }),
      elements: ["vec4h", "vec4h"],
      unpack: (element) => element,
      store: (m, n, sums) =>
        `if (${m} < p.frames * p.width && ${n} < p.channels) {
    y[((wid.z * p.frames * p.width + ${m}) * p.channels + ${n}) / 4u] = vec4h(${sums});
  }`,
    });
    const { has_residual: _, ...params } = CONV3D_PARAMS;
    return {
      name: `conv3d_positions_${tileName(tile, format)}${replicate ? "_replicate" : ""}`,
      buffers: { x: read("vec4h"), weight: read("vec4h"), y: write("vec4h") },
      params: { ...params, x_size: "u32", weight_size: "u32" },
      ...product,
      f16: true,
    };
  },
);

/**
 * Makes the kernel that uses matrix units: pixels along m, channels along n. x and weight are f16, as for a `packed` tile,
 * and the number of input channels is a multiple of 8.
 */
export const conv3dMatrix = memo(({ tile, units, ...shape }: Conv3dShape & MatrixBy): KernelSource => {
  const { element, value, read: readEight, halves } = f16.read.eight;
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
