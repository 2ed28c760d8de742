import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

/** A shift, scale or gate: one of the vectors of each batch item in a modulation tensor [batch, vectors, dim]. */
export interface ModulationVector {
  readonly tensor: Tensor;
  readonly index: number;
}

/** The rows of a tensor [..., dim] as gates of as many rows: each row is then a batch item, so that its gate is its own. */
export function rowGates(x: Tensor): ModulationVector {
  const dim = x.dim(-1);
  return { tensor: x.reshape([x.size / dim, 1, dim]), index: 0 };
}

const KERNEL = perElement({
  name: "modulation",
  buffers: { table: read("f32"), embedding: read("f32"), y: write("f32") },
  params: u32s("table_size", "embedding_size"),
  body: `  let at = i % p.table_size;
  y[i] = table[at] + embedding[(i / p.table_size) * p.embedding_size + at % p.embedding_size];`,
});

/**
 * The learned table plus each batch item's embedding.
 *
 * @param table [vectors, dim], f32
 * @param embedding [batch, vectors, dim], or [batch, dim] to add the same vector to each
 * @returns [batch, vectors, dim], f32
 */
export function modulation(gpu: Gpu, table: Tensor, embedding: Tensor): Tensor {
  const batch = embedding.dim(0), [vectors, dim] = [table.dim(-2), table.dim(-1)];
  const y = gpu.tensor([batch, vectors, dim]);
  return runPerElement(gpu, KERNEL, { table, embedding, y }, {
    ...{ table_size: table.size, embedding_size: embedding.size / batch },
  });
}
