import type { Gpu } from "../gpu/gpu.ts";
import { readTogether } from "../gpu/read_together.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { Conditioning } from "./family.ts";

/** A tensor in this machine's memory. */
export interface HostTensor {
  readonly data: Float32Array;
  readonly shape: readonly number[];
}

/** A conditioning, of a batch of one, in this machine's memory: read from the GPU once, and uploaded for each use. */
export type HostConditioning = {
  readonly [K in keyof Conditioning]: NonNullable<Conditioning[K]> extends Tensor ? HostTensor : Conditioning[K];
};

/** Reads conditionings, which stay as they are. */
export async function readConditionings(
  gpu: Gpu,
  conditionings: readonly Conditioning[],
): Promise<HostConditioning[]> {
  const tensors = conditionings.flatMap((one) => Object.values(one).filter((value) => typeof value === "object"));
  const numbers = await readTogether(gpu, tensors as Tensor[]);
  return conditionings.map((one) => mapTensors(one, ({ shape }: Tensor) => ({ data: numbers.shift()!, shape })));
}

/** Uploads a conditioning. Its tensors belong to the caller, or to the enclosing scope. */
export function uploadConditioning(gpu: Gpu, conditioning: HostConditioning): Conditioning {
  return mapTensors(conditioning, ({ data, shape }: HostTensor) => gpu.upload(data, shape));
}

/** The tensors of a conditioning by their names, and its numbers. */
export function partsOf(conditioning: HostConditioning): {
  readonly tensors: Readonly<Record<string, HostTensor>>;
  readonly numbers: Readonly<Record<string, number>>;
} {
  const entries = Object.entries(conditioning);
  return {
    tensors: Object.fromEntries(entries.filter((entry): entry is [string, HostTensor] => typeof entry[1] === "object")),
    numbers: Object.fromEntries(entries.filter((entry): entry is [string, number] => typeof entry[1] === "number")),
  };
}

function mapTensors<From extends object, To>(conditioning: object, map: (tensor: From) => To): { readonly text: To } {
  const mapped = (value: unknown) => typeof value === "object" ? map(value as From) : value;
  return Object.fromEntries(Object.entries(conditioning).map(([key, value]) => [key, mapped(value)])) as { text: To };
}
