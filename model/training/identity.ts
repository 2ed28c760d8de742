import { cut, quotedValue, TilereelError } from "../../gpu/common/errors.ts";
import { CHECKSUM } from "../checkpoint/checksum.ts";
import { parseJsonObject } from "../checkpoint/json.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";

/** Everything that affects a training's result, by the names of the options. A checkpoint stores it. */
export type TrainingIdentity = Readonly<Record<string, string | number>>;

/** The most options that a message names. */
const MOST_NAMED = 8;

/** A checkpoint's metadata. Writing it gives the checksum its value. */
export function checkpointMetadata(step: number, identity: TrainingIdentity): Record<string, string> {
  return { step: String(step), options: JSON.stringify(identity), [CHECKSUM]: "" };
}

/**
 * The number of finished steps of a checkpoint.
 *
 * @param now the identity of the training that is to resume from it
 * @throws {TilereelError} if the file is no checkpoint, or comes from other options, which are named
 */
export function checkpointStep({ path, metadata }: TensorSource, now: TrainingIdentity): number {
  const none = (why: string) => new TilereelError(`${path} is not a checkpoint: ${why}`);
  if (metadata.options === undefined) throw none("its options are missing");
  const before = parseJsonObject(metadata.options);
  if (!before) throw none("its options are not JSON");
  const differ = [...new Set([...Object.keys(before), ...Object.keys(now)])].filter((key) => before[key] !== now[key]);
  if (differ.length > 0) {
    const one = (key: string) => `${cut(key)} was ${shown(before[key])} and is ${shown(now[key])}`;
    throw new TilereelError(
      `${path} cannot be resumed with different options: ${differ.slice(0, MOST_NAMED).map(one).join(", ")}; ` +
        `give the options that it was started with, or start a new training in another folder`,
    );
  }
  const step = /^\d{1,15}$/.test(metadata.step ?? "") ? Number(metadata.step) : NaN;
  if (step >= 0) return step;
  throw none("the number of its step is missing");
}

function shown(value: unknown): string {
  return value === undefined ? "not given" : typeof value === "string" ? cut(value) : quotedValue(value);
}
