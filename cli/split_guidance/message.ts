/**
 * What a main process and an assistant say to each other, over a WebSocket. A message is a text frame of JSON, and then
 * the numbers of the tensors that it names as binary frames, f32 in little-endian order.
 *
 * @module
 */
import { printable, quoted, TilereelError } from "../../gpu/common/errors.ts";
import { isJsonObject } from "../../model/checkpoint/json.ts";
import { parseJson } from "../../model/checkpoint/parse_json.ts";
import type { HostTensor } from "../../model/conditioning.ts";

/** What a message says beside its tensors. */
export interface Head {
  readonly kind: string;
  readonly [key: string]: unknown;
}

/** One message. */
export interface Message {
  readonly head: Head;
  readonly tensors: Readonly<Record<string, HostTensor>>;
}

/** The shapes of a message's tensors, by their names, in the order of their numbers. */
export type Shapes = Readonly<Record<string, readonly number[]>>;

/** The longest text frame: a thousand steps and the settings of a method take 60 kB. */
const LONGEST_HEAD = 2 ** 20;
const MOST_TENSORS = 8, MOST_AXES = 6, MOST_NUMBERS = 2 ** 28;
/** The size of a binary frame but the last; Deno takes up to 64 MiB. */
const FRAME = 2 ** 25;

/** The frames of a message, to be sent in this order. */
export function framesOf({ head, tensors }: Message): (string | Uint8Array<ArrayBuffer>)[] {
  const shapes = Object.entries(tensors).map(([name, { shape }]) => ({ name, shape }));
  const frames: (string | Uint8Array<ArrayBuffer>)[] = [JSON.stringify({ ...head, tensors: shapes })];
  for (const { data } of Object.values(tensors)) {
    const bytes = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
    for (let at = 0; at < bytes.length; at += FRAME) frames.push(bytes.subarray(at, at + FRAME));
  }
  return frames;
}

/** Puts messages together from their frames. */
export class MessageReader {
  #head: Head | undefined;
  #shapes: [name: string, shape: readonly number[]][] = [];
  #tensors: Record<string, HostTensor> = {};
  /** Of the first of the shapes, what is there of it. */
  #data: Float32Array<ArrayBuffer> | undefined;
  #filled = 0;

  /**
   * @param check is told of the tensors of a message before they are received, and throws if they are not what such a
   * message has
   */
  constructor(private readonly check: (head: Head, shapes: Shapes) => void) {}

  /**
   * Takes the next frame.
   *
   * @returns the message, if it is complete
   * @throws {TilereelError} if the frame belongs to no message; no other frame can be read then
   */
  push(frame: unknown): Message | undefined {
    if (typeof frame === "string" && !this.#head) this.#begin(frame);
    else if (frame instanceof ArrayBuffer && this.#head) this.#fill(frame);
    else throw notUnderstood(this.#head ? "numbers were expected" : "JSON was expected");
    if (this.#shapes.length > 0) return undefined;
    const message = { head: this.#head!, tensors: this.#tensors };
    [this.#head, this.#tensors] = [undefined, {}];
    return message;
  }

  #begin(text: string): void {
    if (text.length > LONGEST_HEAD) throw notUnderstood("it is too long");
    const { tensors, ...head } = parsed(text);
    if (typeof head.kind !== "string") throw notUnderstood("it has no kind");
    const shapes = shapesOf(tensors ?? []);
    this.check(head as Head, shapes);
    this.#head = head as Head;
    this.#shapes = Object.entries(shapes);
  }

  #fill(frame: ArrayBuffer): void {
    const [name, shape] = this.#shapes[0]!, bytes = 4 * numbersOf(shape), left = bytes - this.#filled;
    if (frame.byteLength === 0 || frame.byteLength > left) {
      throw notUnderstood(`${frame.byteLength} bytes came where up to ${left} were expected`);
    }
    if (frame.byteLength === bytes) this.#data = new Float32Array(frame);
    else {
      this.#data ??= new Float32Array(bytes / 4);
      new Uint8Array(this.#data.buffer).set(new Uint8Array(frame), this.#filled);
    }
    this.#filled += frame.byteLength;
    if (this.#filled < bytes) return;
    this.#tensors[name] = { data: this.#data, shape };
    this.#shapes.shift();
    [this.#data, this.#filled] = [undefined, 0];
  }
}

function parsed(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (error) {
    throw notUnderstood((error as Error).message);
  }
  if (!isJsonObject(value)) throw notUnderstood("it is no object");
  return value;
}

function shapesOf(tensors: unknown): Shapes {
  if (!Array.isArray(tensors) || tensors.length > MOST_TENSORS) throw notUnderstood("its tensors are no short list");
  const shapes = tensors.map((tensor): [string, readonly number[]] => {
    const { name, shape } = isJsonObject(tensor) ? tensor : {};
    const fits = typeof name === "string" && /^[a-z]{1,20}$/.test(name) && Array.isArray(shape) &&
      shape.length <= MOST_AXES && shape.every((length) => Number.isSafeInteger(length) && length > 0);
    if (!fits || numbersOf(shape as number[]) > MOST_NUMBERS) {
      throw notUnderstood(`a tensor ${typeof name === "string" ? quoted(name, 20) : "without a name"} has no shape`);
    }
    return [name, shape as number[]];
  });
  const byName = Object.fromEntries(shapes);
  if (Object.keys(byName).length < shapes.length) throw notUnderstood("two of its tensors have one name");
  return byName;
}

function numbersOf(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

/** The error for what is no message. */
export function notUnderstood(why: string): TilereelError {
  return new TilereelError(
    `a message could not be read, because ${printable(why.slice(0, 200))}; use the same tilereel at both ends`,
  );
}
