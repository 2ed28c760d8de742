import { quoted, quotedValue, TilereelError } from "../../gpu/common/errors.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import type { Container } from "./container.ts";
import { elementCount, storedBytes, toFloat32 } from "./dtype.ts";
import { PickledDict, PickledName, PickledTuple, type PickledValue, PickleError, readPickle } from "./pickle.ts";
import { fileAt } from "../files/disk.ts";
import { type ByteSource, readPart, type StoredFile } from "../files/store.ts";
import { type StoredTensor, TensorFile, type TensorHeader } from "./tensor_file.ts";
import { isZip, readZipDirectory, type ZipEntry } from "./zip_directory.ts";

/** A tensor of a state dict. */
export interface TorchTensor {
  readonly shape: readonly number[];
  /** The numbers in row-major order, whatever the order in the file. */
  readonly data: Float32Array<ArrayBuffer>;
}

const STORAGE_DTYPES = {
  "torch.DoubleStorage": "F64",
  "torch.FloatStorage": "F32",
  "torch.HalfStorage": "F16",
  "torch.BFloat16Storage": "BF16",
} as const;
type StorageName = keyof typeof STORAGE_DTYPES;

const REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2";

/** The largest pickle. A tensor takes some 150 bytes, and the largest models have 2,000. */
const LARGEST_PICKLE = 2 ** 21;
const MOST_DIMENSIONS = 8;

/** A storage of numbers in the archive, as the pickle describes it. */
class Storage {
  constructor(readonly key: string, readonly dtype: (typeof STORAGE_DTYPES)[StorageName], readonly length: number) {}
}

/** A view of a storage. */
class View {
  constructor(
    readonly storage: Storage,
    readonly offset: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
  ) {}
}

/** The first bytes of files by PyTorch before 1.6: a pickle of a magic number. No safetensors file starts like this. */
const OLD_MAGIC = [0x80, 0x02, 0x8a, 0x0a];

/**
 * Whether a file is a zip archive, as those of `torch.save` are.
 *
 * @param wanted what is expected there, for messages
 * @throws {TilereelError} if it cannot be read, or was written by PyTorch before 1.6.
 */
export async function isTorchZip(stored: string | StoredFile, wanted?: string): Promise<boolean> {
  using file = await fileAt(stored).open(wanted);
  const start = await readPart(file, 0, 4);
  if (OLD_MAGIC.every((byte, i) => start[i] === byte)) {
    throw refused(file.path, "it is in the format that torch.save had before PyTorch 1.6");
  }
  return isZip(start);
}

/**
 * Reads a state dict of float tensors that `torch.save` wrote: a zip archive of a pickle, which lists the tensors, and
 * of the numbers. Nothing in the file is executed.
 *
 * @param wanted which tensors to read; the others are only checked
 * @throws {TilereelError} naming the file, if it is damaged, contains anything but named float tensors, or expands to
 * more bytes than it has
 */
export async function readTorchStateDict(
  stored: string | StoredFile,
  wanted: (name: string) => boolean = () => true,
): Promise<Map<string, TorchTensor>> {
  using file = await fileAt(stored).open();
  const found = await readDirectory(file), storages = new Map<string, Float32Array>();
  const tensors = new Map<string, TorchTensor>();
  for (const [name, { view, entry: { offset, length } }] of found) {
    if (!wanted(name)) continue;
    const { key, dtype } = view.storage;
    const stored = storages.get(key) ?? toFloat32(await readPart(file, offset, length), dtype);
    storages.set(key, stored);
    tensors.set(name, { shape: view.shape, data: gather(stored, view) });
  }
  return tensors;
}

/**
 * Files by `torch.save` as files of weights: a state dict whose tensors are read when they are needed. Nothing in them is
 * executed.
 */
export const TORCH: Container = {
  kinds: ["torch zip"],
  ending: "pth",
  open: async (file) => new TensorFile(file, await readHeader(file)),
};

async function readHeader(file: ByteSource): Promise<TensorHeader> {
  const { path } = file, tensors: StoredTensor[] = [];
  for (const [name, { view, entry }] of await readDirectory(file)) {
    const { storage: { dtype }, shape, strides } = view, bytes = storedBytes(dtype, elementCount(shape));
    const inOrder = shape.every((size, axis) => size <= 1 || strides[axis] === elementCount(shape.slice(axis + 1)));
    if (!inOrder) throw refused(path, `tensor ${quoted(name)} is a view whose numbers are not in order`);
    tensors.push({ name, dtype, shape, bytes, file: path, offset: entry.offset + storedBytes(dtype, view.offset) });
  }
  tensors.sort((a, b) => a.offset - b.offset);
  return { metadata: {}, tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])) };
}

/** The checked tensors of a file, and where their storages are. */
async function readDirectory(file: ByteSource): Promise<Map<string, { view: View; entry: ZipEntry }>> {
  const { path } = file;
  const entries = await readZipDirectory(file);
  const pickle = [...entries.values()].filter(({ name }) => /^[^/]+\/data\.pkl$/.test(name));
  if (pickle.length !== 1) throw refused(path, 'it has no "data.pkl", so torch.save did not write it');
  const root = pickle[0]!.name.slice(0, -"data.pkl".length);
  await checkByteOrder(file, entries.get(`${root}byteorder`));
  if (pickle[0]!.length > LARGEST_PICKLE) {
    throw refused(path, `its pickle is ${formatBytes(pickle[0]!.length)} long`);
  }

  const views = readViews(path, await readPart(file, pickle[0]!.offset, pickle[0]!.length));
  checkSizes(path, views, (key) => entries.get(`${root}data/${key}`));
  const entryOf = ({ storage: { key } }: View) => entries.get(`${root}data/${key}`)!;
  return new Map([...views].map(([name, view]) => [name, { view, entry: entryOf(view) }]));
}

function readViews(path: string, pickle: Uint8Array): Map<string, View> {
  let value: PickledValue;
  try {
    value = readPickle<Storage | View>(pickle, {
      names: new Set([...Object.keys(STORAGE_DTYPES), REBUILD_TENSOR]),
      external: readStorage,
      call: (_, args) => readView(args),
    });
  } catch (error) {
    if (error instanceof PickleError) throw refused(path, error.message, error);
    throw error;
  }
  if (!(value instanceof PickledDict)) throw refused(path, "it is not a dict of named tensors");
  const views = new Map<string, View>();
  for (const [name, view] of value.entries) {
    if (typeof name !== "string") throw refused(path, "one of its tensors has no name");
    if (!(view instanceof View)) throw refused(path, `${quoted(name)} in it is not a tensor`);
    views.set(name, view);
  }
  return views;
}

/** ("storage", type, key, device, elements) */
function readStorage(id: PickledValue): Storage {
  const [kind, type, key, , length] = id instanceof PickledTuple ? id.items : [];
  const dtype = type instanceof PickledName && Object.hasOwn(STORAGE_DTYPES, type.name)
    ? STORAGE_DTYPES[type.name as StorageName]
    : undefined;
  if (kind !== "storage" || dtype === undefined || typeof key !== "string" || !isSize(length)) {
    throw new PickleError("it names a storage in an unknown way");
  }
  return new Storage(key, dtype, length);
}

/** (storage, offset, shape, strides, requires_grad, hooks) */
function readView(args: readonly PickledValue[]): View {
  const [storage, offset, shape, strides] = args;
  if (
    !(storage instanceof Storage) || !isSize(offset) || !(shape instanceof PickledTuple) ||
    !(strides instanceof PickledTuple) || ![...shape.items, ...strides.items].every(isSize) ||
    shape.items.length !== strides.items.length || shape.items.length > MOST_DIMENSIONS
  ) throw new PickleError("it describes a tensor in an unknown way");
  return new View(storage, offset, shape.items as number[], strides.items as number[]);
}

/** Checks every tensor against its storage and the storage against the archive, before anything is allocated. */
function checkSizes(path: string, views: ReadonlyMap<string, View>, entryOf: (key: string) => ZipEntry | undefined) {
  let taken = 0, stored = 0;
  const seen = new Map<string, Storage>();
  for (const [name, { storage, offset, shape, strides }] of views) {
    const what = `tensor ${quoted(name)}`;
    const earlier = seen.get(storage.key);
    if (earlier && earlier.dtype !== storage.dtype) {
      throw refused(path, `${what} reads another's numbers as another type`);
    }
    const bytes = entryOf(storage.key)?.length;
    const expected = storedBytes(storage.dtype, storage.length);
    if (bytes !== expected) {
      throw refused(
        path,
        `${what} needs ${formatBytes(expected)} of numbers, but ${
          bytes === undefined ? "none" : formatBytes(bytes)
        } are there`,
      );
    }
    const last = shape.reduce((at, size, axis) => at + (size - 1) * strides[axis]!, offset);
    if (shape.every((size) => size > 0) && last >= storage.length) {
      throw refused(path, `${what} reaches past the end of its ${storage.length} numbers`);
    }
    taken += elementCount(shape);
    if (!earlier) stored += storage.length;
    seen.set(storage.key, storage);
  }
  // A stride of 0, or one storage that is used a thousand times, would expand a few bytes to gigabytes.
  if (taken > stored) throw refused(path, `its tensors have ${taken} numbers, but only ${stored} are there`);
}

function gather(stored: Float32Array, { offset, shape, strides }: View): Float32Array<ArrayBuffer> {
  const data = new Float32Array(elementCount(shape));
  const index = shape.map(() => 0);
  let from = offset;
  for (let to = 0; to < data.length; to++) {
    data[to] = stored[from]!;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      from -= shape[axis]! * strides[axis]!;
      index[axis] = 0;
    }
  }
  return data;
}

async function checkByteOrder(file: ByteSource, entry: ZipEntry | undefined): Promise<void> {
  // Before PyTorch 2.1 there was no such entry, and the byte order was the machine's: little-endian on nearly all.
  if (!entry) return;
  const order = entry.length <= 16 ? new TextDecoder().decode(await readPart(file, entry.offset, entry.length)) : "";
  if (order !== "little") {
    throw refused(file.path, `its byte order is ${quotedValue(order)}, but only "little" is read`);
  }
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function refused(path: string, what: string, cause?: Error): TilereelError {
  return new TilereelError(
    `${path} is not a readable state dict of float tensors: ${what}; ` +
      `save the tensors again, with torch.save or as safetensors`,
    { cause },
  );
}
