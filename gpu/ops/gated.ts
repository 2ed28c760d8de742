import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";
import type { ModulationVector } from "./modulation.ts";

const KERNEL = perElement({
  name: "gated",
  buffers: { x: read("f32"), gate: read("f32"), residual: read("f32"), y: write("f32") },
  params: u32s("dim", "rows_per_batch", "gate_offset", "gate_stride", "has_residual"),
  body: `  var v = x[i] * gate[(i / p.dim / p.rows_per_batch) * p.gate_stride + p.gate_offset + i % p.dim];
  if (p.has_residual != 0u) { v += residual[i]; }
  y[i] = v;`,
});

/**
 * y = residual + gate · x, for an adaptive gate that does not follow a matrix product.
 *
 * @param x [..., dim], f32
 * @param gate one vector of `dim` for each batch item
 * @param residual the size of x, f32
 */
export function gated(gpu: Gpu, x: Tensor, gate: ModulationVector, residual?: Tensor): Tensor {
  const { tensor, index } = gate;
  const dim = x.dim(-1), batch = tensor.dim(0);
  const buffers = { x, gate: tensor, residual: residual ?? gpu.placeholder, y: gpu.tensor(x.shape) };
  const y = runPerElement(gpu, KERNEL, buffers, {
    ...{ dim, rows_per_batch: x.size / dim / batch, has_residual: residual ? 1 : 0 },
    ...{ gate_offset: index * dim, gate_stride: tensor.size / batch },
  });
  gpu.tape?.record(y, [x, residual, tensor], (dy, wanted) => [
    wanted[0] ? gated(gpu, dy, gate) : undefined,
    wanted[1] ? dy : undefined,
  ]);
  return y;
}
