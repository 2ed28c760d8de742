import { quoted, TilereelError } from "../gpu/common/errors.ts";
import { CHECKSUM, checkWhole } from "./checkpoint/checksum.ts";
import { parseJsonObject } from "./checkpoint/json.ts";
import { openSafetensors } from "./checkpoint/safetensors.ts";
import { readFloat32, type TensorSource } from "./checkpoint/tensor_source.ts";
import { writeSafetensors } from "./checkpoint/write_safetensors.ts";
import type { HostTensor } from "./conditioning.ts";
import type { SamplingState } from "./sampling_state.ts";

/** What a message says to do about a file that cannot be used. */
const REMEDY = "remove it, and begin the clip anew";

/**
 * Writes how far a clip is: a safetensors file with a checksum, which is replaced as a whole.
 *
 * @param metadata more texts to keep with it
 * @throws {TilereelError} if the file cannot be written
 */
export async function saveSamplingState(
  path: string,
  { step, steps, tensors, numbers }: SamplingState,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const stored = Object.entries(tensors).map(([name, { data, shape }]) =>
    [name, { dtype: "F32" as const, shape, data }] as const
  );
  // JSON has no infinities.
  const texts = Object.fromEntries(Object.entries(numbers).map(([name, number]) => [name, String(number)]));
  await writeSafetensors(path, Object.fromEntries(stored), {
    ...metadata,
    ...{ step: String(step), steps: String(steps), numbers: JSON.stringify(texts), [CHECKSUM]: "" },
  });
}

/**
 * Reads what {@link saveSamplingState} wrote.
 *
 * @throws {TilereelError} if there is no such file, it is of another kind, or it is damaged
 */
export async function loadSamplingState(path: string): Promise<SamplingState> {
  using source = await openSafetensors(path, "the state of a clip, as saveSamplingState writes it");
  return await readSamplingState(source);
}

/** As {@link loadSamplingState}, of a file that is open. */
export async function readSamplingState(source: TensorSource): Promise<SamplingState> {
  const { path, metadata } = source, texts = parseJsonObject(metadata.numbers ?? "");
  const [step, steps] = [metadata.step, metadata.steps].map((text) =>
    /^\d{1,9}$/.test(text ?? "") ? Number(text) : NaN
  );
  if (!texts || !(step! <= steps!)) {
    throw new TilereelError(`${path} is not the state of a clip: the number of its step is missing; ${REMEDY}`);
  }
  await checkWhole(source, REMEDY);
  const tensors: Record<string, HostTensor> = {};
  for (const name of source.names()) {
    tensors[name] = { data: await readFloat32(source, name), shape: [...source.info(name).shape] };
  }
  const numbers = Object.fromEntries(
    Object.entries(texts).map(([name, text]) => {
      if (typeof text === "string") return [name, Number(text)];
      throw new TilereelError(`${path} is not the state of a clip: ${quoted(name)} is no number; ${REMEDY}`);
    }),
  );
  return { step: step!, steps: steps!, tensors, numbers };
}
