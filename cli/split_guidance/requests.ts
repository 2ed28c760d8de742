/**
 * The messages of a main process: a clip, the latents of a step, the end of a clip. What an assistant is sent is checked
 * before its numbers are received.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import { isJsonObject } from "../../model/checkpoint/json.ts";
import { partsOf } from "../../model/conditioning.ts";
import type { FamilyModel } from "../../model/family.ts";
import { checkSplitClip } from "../../model/split_guidance/check_split_clip.ts";
import type { SplitClip } from "../../model/split_guidance/partner.ts";
import { methodOptions, type MethodValues } from "../../tools/program/clip/method_options.ts";
import { readValues } from "../../tools/program/clip/read_values.ts";
import { optionName } from "../../tools/program/clip/clip_settings.ts";
import { withoutPaths } from "../../tools/program/options.ts";
import { optionsOf } from "../generate/clip_record.ts";
import { type Head, type Message, notUnderstood, type Shapes } from "./message.ts";

/** The settings of attention and step cache, as a clip's record has them. */
export type MethodRecord = Readonly<Record<string, unknown>>;

/** A clip that an assistant is asked to help with. */
export interface ClipRequest {
  readonly clip: SplitClip;
  readonly methods: MethodRecord;
}

/** The message that asks for help with a clip. */
export function clipMessage({ clip: { conditioning, ...clip }, methods }: ClipRequest): Message {
  const { tensors, numbers } = partsOf(conditioning);
  return { head: { kind: "clip", ...clip, numbers, methods }, tensors };
}

/**
 * The clip of a message.
 *
 * @param model that it must be a clip of
 * @param tensors that were received, or their shapes alone
 * @throws {TilereelError} if it is none
 */
export function clipOf(
  model: Pick<FamilyModel, "family" | "latentShape" | "textDim" | "pooledDim">,
  { size, shape, lengths, timesteps, sigmas, numbers, methods }: Head,
  tensors: Readonly<Record<string, { readonly shape: readonly number[] }>>,
): ClipRequest {
  if (!isJsonObject(size) || !isJsonObject(numbers) || !isJsonObject(methods)) throw notUnderstood("it is no clip");
  const { width, height, frames } = size;
  const lists = [[width, height, frames], shape, lengths, timesteps, sigmas, Object.values(numbers)];
  if (!lists.every((list) => Array.isArray(list) && list.every((number) => typeof number === "number"))) {
    throw notUnderstood("its numbers are none");
  }
  const clip = { size, shape, lengths, timesteps, sigmas, conditioning: { ...tensors, ...numbers } } as unknown;
  checkSplitClip(model, clip as SplitClip);
  return { clip: clip as SplitClip, methods };
}

/** The message with the latents of a step. */
export function stepMessage(step: number, shape: readonly number[], latents: Float32Array): Message {
  return { head: { kind: "step", step }, tensors: { latents: { data: latents, shape } } };
}

/** The message that says that a clip needs no more. */
export const END: Message = { head: { kind: "end" }, tensors: {} };

/** A clip that an assistant helps with. */
export interface BegunClip {
  readonly shape: readonly number[];
  /** The number of its steps. */
  readonly steps: number;
  /** The step that comes next. It is not known before the first, because a clip may go on from where it was. */
  readonly next?: number | undefined;
}

/**
 * Checks what a main process sends, before its numbers are received.
 *
 * @throws {TilereelError} if it is none of its messages
 */
export function checkRequest(
  model: Parameters<typeof clipOf>[0],
  clip: BegunClip | undefined,
  head: Head,
  shapes: Shapes,
): void {
  const { kind, step } = head;
  if (kind === "clip") {
    const tensors = Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, { shape }]));
    return void clipOf(model, head, tensors);
  }
  const names = Object.keys(shapes).join();
  if (kind === "end" && names === "") return;
  if (kind !== "step" || !clip) throw notUnderstood("it is not one that was expected");
  if (names !== "latents" || shapes.latents!.join() !== clip.shape.join()) {
    throw notUnderstood("its latents do not fit");
  }
  const { next = step, steps } = clip;
  if (!Number.isSafeInteger(step) || step !== next || step as number < 0 || step as number >= steps) {
    throw notUnderstood("its step is not the next");
  }
}

/**
 * The values of the options of attention and step cache that make this record.
 *
 * @param own files that may be used: those that the assistant was started with
 * @throws {TilereelError} if it has no such options
 */
export function methodValuesOf(record: MethodRecord, own: Pick<MethodValues, "router" | "tiles">): MethodValues {
  const texts = optionsOf(record).filter(([name]) => Object.hasOwn(methodOptions, name));
  const values = readValues(Object.fromEntries(texts), withoutPaths(methodOptions), "the request");
  const files = Object.entries(own).filter(([name, file]) => file !== undefined && record[name] !== undefined);
  return { ...values, ...Object.fromEntries(files) };
}

/**
 * Checks that attention and step cache are those of the main process.
 *
 * @throws {TilereelError} that names what differs
 */
export function checkSameMethods(asked: MethodRecord, own: MethodRecord): void {
  const keys = new Set([...Object.keys(asked), ...Object.keys(own)]);
  const other = [...keys].find((key) => {
    const decides = asked[`${key}Digest`] !== undefined && own[`${key}Digest`] !== undefined ? `${key}Digest` : key;
    return JSON.stringify(asked[decides]) !== JSON.stringify(own[decides]);
  });
  if (other === undefined) return;
  const option = optionName(other.replace(/Digest$/, ""));
  const isFile = withoutPaths(methodOptions)[option as "attention"] === undefined;
  throw new TilereelError(
    isFile
      ? `the file of --${option} is another one there: give the assistant the same file with --${option}`
      : `the setting ${option} cannot be the same there: use the same tilereel and the same model at both ends`,
  );
}
