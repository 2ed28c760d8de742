import { quoted } from "../../gpu/common/errors.ts";

/** A tuple. */
export class PickledTuple {
  constructor(readonly items: readonly PickledValue[]) {}
}

/** A dict. The attributes of an OrderedDict are ignored. */
export class PickledDict {
  readonly entries = new Map<PickledValue, PickledValue>();
}

/** A class or function, as a module and a name only. */
export class PickledName {
  constructor(readonly name: string) {}
}

/** What {@linkcode PickleReader} must know of a file format that uses pickles. */
export interface PickleFormat<T> {
  /** The names that may occur besides OrderedDict. */
  readonly names: ReadonlySet<string>;
  /** Resolves an object outside the pickle. Throws a {@linkcode PickleError} if `id` is not understood. */
  external(id: PickledValue): T;
  /** Resolves the result of a call. Throws a {@linkcode PickleError} if it is not understood. */
  call(name: string, args: readonly PickledValue[]): T;
}

/** The values that a pickle can contain. `object` is a value made by the format's callbacks. */
export type PickledValue = number | string | boolean | null | PickledTuple | PickledDict | PickledName | object;

/** Why a pickle is refused, as the end of a sentence. The caller, which knows the file, completes it. */
export class PickleError extends Error {}

const ORDERED_DICT = "collections.OrderedDict";
const MARK = Symbol("mark");
type OnStack = PickledValue | typeof MARK;

/**
 * The value that a pickle describes. A pickle is a program; this reader knows only the instructions that build numbers,
 * strings, tuples and dicts, and the few names that describe tensors. Nothing is imported or called. Time and memory
 * are proportional to the pickle's length.
 *
 * @throws {PickleError} if it is damaged or uses what a state dict does not need.
 */
export function readPickle<T extends object>(bytes: Uint8Array, format: PickleFormat<T>): PickledValue {
  return new PickleReader(bytes, format).read();
}

class PickleReader<T extends object> {
  readonly #view: DataView;
  #at = 0;
  readonly #stack: OnStack[] = [];
  readonly #memo = new Map<number, PickledValue>();

  constructor(private readonly bytes: Uint8Array, private readonly format: PickleFormat<T>) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  read(): PickledValue {
    for (;;) {
      const code = this.#uint8();
      if (code === 0x2e) { // STOP
        const value = this.#pop();
        if (this.#stack.length > 0) throw new PickleError("it ends with values left over");
        return value;
      }
      this.#execute(code);
    }
  }

  #execute(code: number): void {
    switch (code) {
      case 0x80: { // PROTO
        const protocol = this.#uint8();
        if (protocol < 2 || protocol > 5) throw new PickleError(`its protocol is ${protocol}, not 2 to 5`);
        return;
      }
      case 0x95: // FRAME: a hint of what may be read at once
        this.#take(8);
        return;
      case 0x28: // MARK
        this.#stack.push(MARK);
        return;

      case 0x4e: // NONE
        return this.#push(null);
      case 0x88: // NEWTRUE
        return this.#push(true);
      case 0x89: // NEWFALSE
        return this.#push(false);
      case 0x4b: // BININT1
        return this.#push(this.#uint8());
      case 0x4d: // BININT2
        return this.#push(this.#number(2, (at) => this.#view.getUint16(at, true)));
      case 0x4a: // BININT
        return this.#push(this.#number(4, (at) => this.#view.getInt32(at, true)));
      case 0x8a: // LONG1
        return this.#push(this.#long(this.#uint8()));
      case 0x47: // BINFLOAT
        return this.#push(this.#number(8, (at) => this.#view.getFloat64(at)));
      case 0x58: // BINUNICODE
        return this.#push(this.#text(this.#uint32()));
      case 0x8c: // SHORT_BINUNICODE
        return this.#push(this.#text(this.#uint8()));

      case 0x71: // BINPUT
        return this.#remember(this.#uint8());
      case 0x72: // LONG_BINPUT
        return this.#remember(this.#uint32());
      case 0x94: // MEMOIZE
        return this.#remember(this.#memo.size);
      case 0x68: // BINGET
        return this.#recall(this.#uint8());
      case 0x6a: // LONG_BINGET
        return this.#recall(this.#uint32());

      case 0x29: // EMPTY_TUPLE
        return this.#push(new PickledTuple([]));
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: { // TUPLE3
        const items = Array.from({ length: code - 0x84 }, () => this.#pop());
        return this.#push(new PickledTuple(items.reverse()));
      }
      case 0x74: // TUPLE
        return this.#push(new PickledTuple(this.#popToMark()));
      case 0x7d: // EMPTY_DICT
        return this.#push(new PickledDict());
      case 0x73: { // SETITEM
        const value = this.#pop(), key = this.#pop();
        return this.#set([key, value]);
      }
      case 0x75: // SETITEMS
        return this.#set(this.#popToMark());

      case 0x63: // GLOBAL
        return this.#name(`${this.#line()}.${this.#line()}`);
      case 0x93: { // STACK_GLOBAL
        const name = this.#pop(), module = this.#pop();
        if (typeof name !== "string" || typeof module !== "string") {
          throw new PickleError("a name in it is not a string");
        }
        return this.#name(`${module}.${name}`);
      }
      case 0x51: // BINPERSID
        return this.#push(this.format.external(this.#pop()));
      case 0x52: // REDUCE
        return this.#reduce();
      case 0x62: { // BUILD
        this.#pop();
        if (!(this.#top() instanceof PickledDict)) {
          throw new PickleError("it sets attributes of something other than a dict");
        }
        return;
      }
      default:
        throw new PickleError(`it has the instruction 0x${code.toString(16)}, which no tensors need`);
    }
  }

  #name(name: string): void {
    if (name !== ORDERED_DICT && !this.format.names.has(name)) {
      throw new PickleError(`it asks for ${quoted(name)}, which no tensors need and which could run anything`);
    }
    this.#push(new PickledName(name));
  }

  #reduce(): void {
    const args = this.#pop(), callee = this.#pop();
    if (!(callee instanceof PickledName) || !(args instanceof PickledTuple)) {
      throw new PickleError("it calls something that is not a function");
    }
    if (callee.name !== ORDERED_DICT) return this.#push(this.format.call(callee.name, args.items));
    if (args.items.length > 0) throw new PickleError("an OrderedDict in it is made in an unknown way");
    this.#push(new PickledDict());
  }

  #set(items: readonly PickledValue[]): void {
    const dict = this.#top();
    if (!(dict instanceof PickledDict) || items.length % 2 !== 0) throw new PickleError("it sets items of no dict");
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i]!;
      if (dict.entries.has(key)) {
        throw new PickleError(`it has ${typeof key === "string" ? quoted(key) : "a key"} twice`);
      }
      dict.entries.set(key, items[i + 1]!);
    }
  }

  #remember(index: number): void {
    this.#memo.set(index, this.#top());
  }

  #recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) throw new PickleError("it refers to a value that is not there");
    this.#push(value);
  }

  #push(value: PickledValue): void {
    this.#stack.push(value);
  }

  #top(): PickledValue {
    const value = this.#stack.at(-1);
    if (value === undefined || value === MARK) throw new PickleError("it uses a value that is not there");
    return value;
  }

  #pop(): PickledValue {
    const value = this.#top();
    this.#stack.pop();
    return value;
  }

  #popToMark(): PickledValue[] {
    const mark = this.#stack.lastIndexOf(MARK);
    if (mark === -1) throw new PickleError("it uses values that are not there");
    const values = this.#stack.splice(mark);
    values.shift();
    return values as PickledValue[];
  }

  #uint8(): number {
    return this.#number(1, (at) => this.#view.getUint8(at));
  }

  #uint32(): number {
    return this.#number(4, (at) => this.#view.getUint32(at, true));
  }

  /** A little-endian integer in two's complement. */
  #long(length: number): number {
    const bytes = this.#take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = value << 8n | BigInt(bytes[i]!);
    const signed = Number(BigInt.asIntN(8 * length, value));
    if (!Number.isSafeInteger(signed)) throw new PickleError("a number in it is too large");
    return signed;
  }

  #number(length: number, read: (at: number) => number): number {
    const at = this.#at;
    this.#take(length);
    return read(at);
  }

  #text(length: number): string {
    return this.#decode(this.#take(length));
  }

  /** Text up to a line feed. */
  #line(): string {
    const end = this.bytes.indexOf(0x0a, this.#at);
    if (end === -1) throw new PickleError("it ends too early");
    const text = this.#decode(this.bytes.subarray(this.#at, end));
    this.#at = end + 1;
    return text;
  }

  #decode(bytes: Uint8Array): string {
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch {
      throw new PickleError("a string in it is not UTF-8");
    }
  }

  #take(length: number): Uint8Array {
    if (this.#at + length > this.bytes.length) throw new PickleError("it ends too early");
    this.#at += length;
    return this.bytes.subarray(this.#at - length, this.#at);
  }
}
