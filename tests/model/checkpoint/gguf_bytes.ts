/** A tensor of {@link ggufBytes}. */
export interface GgufTensor {
  readonly shape: readonly number[];
  /** ggml's number of the dtype: 0 for F32, 1 for F16, 8 for Q8_0. */
  readonly type: number;
  readonly data: Uint8Array;
}

/** The bytes of a GGUF file, version 3. */
export function ggufBytes(
  tensors: Readonly<Record<string, GgufTensor>>,
  { texts = { "general.architecture": "wan" }, values = {}, version = 3, count = Object.keys(tensors).length }: {
    readonly texts?: Readonly<Record<string, string>>;
    /** Numbers, and lists of texts or of numbers. */
    readonly values?: Readonly<Record<string, number | readonly string[] | Uint8Array | Int32Array | Float32Array>>;
    readonly version?: number;
    readonly count?: number;
  } = {},
): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  const u32 = (value: number) => parts.push(new Uint8Array(Uint32Array.of(value).buffer));
  const u64 = (value: number) => parts.push(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
  const text = (value: string) => {
    const bytes = new TextEncoder().encode(value);
    u64(bytes.length);
    parts.push(bytes);
  };
  const padded = (length: number) => Math.ceil(length / 32) * 32;
  parts.push(new TextEncoder().encode("GGUF"));
  u32(version);
  u64(count);
  u64(Object.keys(texts).length + Object.keys(values).length);
  for (const [key, value] of Object.entries(texts)) {
    text(key);
    u32(8);
    text(value);
  }
  for (const [key, value] of Object.entries(values)) {
    text(key);
    if (typeof value === "number") {
      u32(6);
      parts.push(new Uint8Array(Float32Array.of(value).buffer));
      continue;
    }
    u32(9);
    u32(value instanceof Uint8Array ? 0 : value instanceof Int32Array ? 5 : value instanceof Float32Array ? 6 : 8);
    u64(value.length);
    if (value instanceof Uint8Array) parts.push(value);
    else if (value instanceof Int32Array || value instanceof Float32Array) {
      parts.push(new Uint8Array(value.slice().buffer));
    } else for (const one of value) text(one);
  }
  let offset = 0;
  for (const [name, { shape, type, data }] of Object.entries(tensors)) {
    text(name);
    u32(shape.length);
    for (const axis of shape.toReversed()) u64(axis);
    u32(type);
    u64(offset);
    offset += padded(data.length);
  }
  const header = parts.reduce((sum, { length }) => sum + length, 0);
  const bytes = new Uint8Array(padded(header) + offset);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  at = padded(header);
  for (const { data } of Object.values(tensors)) {
    bytes.set(data, at);
    at += padded(data.length);
  }
  return bytes;
}

/** Numbers in Q8_0, and as they are decoded. */
export function quantisedQ8(values: Float32Array): { readonly data: Uint8Array; readonly values: Float32Array } {
  const data = new Uint8Array(values.length / 32 * 34), view = new DataView(data.buffer);
  const rounded = new Float32Array(values.length);
  for (let block = 0; block < values.length / 32; block++) {
    const part = values.subarray(32 * block, 32 * (block + 1));
    const scale = Math.f16round(part.reduce((most, v) => Math.max(most, Math.abs(v)), 0) / 127);
    view.setFloat16(34 * block, scale, true);
    for (const [i, v] of part.entries()) {
      const integer = scale === 0 ? 0 : Math.max(-127, Math.min(127, Math.round(v / scale)));
      view.setInt8(34 * block + 2 + i, integer);
      rounded[32 * block + i] = integer * scale + 0; // not -0
    }
  }
  return { data, values: rounded };
}
