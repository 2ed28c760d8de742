import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import { readFloat32 } from "../../../model/checkpoint/tensor_source.ts";
import { readTorchStateDict } from "../../../model/checkpoint/torch_zip.ts";
import { inTempDir, ROOT } from "../../process.ts";
import { concat, makeZip, type ZipEntry } from "../../zip.ts";

const FIXTURES = join(ROOT, "tests/fixtures/router");
const expected: { tensors: Record<string, number[]> } = JSON.parse(
  await Deno.readTextFile(join(FIXTURES, "expected.json")),
);

Deno.test("files by torch.save: dtypes, slices of one storage, transposed storage, OrderedDict, protocol 4", async () => {
  // Half a unit in the last of 8 and of 11 bits.
  const bounds: Record<string, number> = { bfloat16: 2 ** -8, float16: 2 ** -11 };
  for (const name of ["float32", "bfloat16", "float16", "slices", "transposed", "ordered", "protocol4"]) {
    const tensors = await readTorchStateDict(join(FIXTURES, `${name}.pt`));
    const prefix = name === "ordered" ? "_fsdp_wrapped_module." : "";
    assertEquals([...tensors.keys()], Object.keys(expected.tensors).map((key) => prefix + key), name);
    for (const [key, values] of Object.entries(expected.tensors)) {
      const { shape, data } = tensors.get(prefix + key)!;
      assertEquals(shape, key.endsWith("weight") ? [6, 8] : [6], `${name}: ${key}`);
      assertEquals(data.length, values.length);
      for (const [i, value] of values.entries()) {
        const error = Math.abs(data[i]! - value);
        assert(error <= Math.abs(value) * (bounds[name] ?? 0), `${name}: ${key}[${i}] is ${data[i]}, not ${value}`);
      }
    }
  }
  const some = await readTorchStateDict(join(FIXTURES, "float32.pt"), (name) => name.endsWith("1.router.linear.bias"));
  assertEquals([...some.keys()], ["blocks.1.router.linear.bias"]);
});

/** The archive with all numbers in fields of 64 bits, as archives of 4 GiB and more have them. */
function asZip64(zip: Uint8Array): Uint8Array<ArrayBuffer> {
  const end = zip.length - 22, view = new DataView(zip.buffer, zip.byteOffset), start = view.getUint32(end + 16, true);
  const long = (...numbers: number[]) => new Uint8Array(BigUint64Array.from(numbers, BigInt).buffer);
  const short = (...numbers: number[]) => new Uint8Array(Uint16Array.from(numbers).buffer);
  const entries: Uint8Array[] = [];
  for (let at = start; at < end;) {
    const [name, extra] = [28, 30].map((field) => view.getUint16(at + field, true)) as [number, number];
    const entry = zip.slice(at, at + 46 + name), own = new DataView(entry.buffer);
    const [stored, size, local] = [20, 24, 42].map((field) => own.getUint32(field, true)) as [number, number, number];
    for (const field of [20, 24, 42]) own.setUint32(field, 0xffffffff, true);
    own.setUint16(30, 10 + 28, true);
    // Another field before it.
    entries.push(entry, short(7, 6, 0, 0, 0), short(1, 24), long(size, stored, local));
    at += 46 + name + extra;
  }
  const directory = concat(entries), count = view.getUint16(end + 10, true);
  const longEnd = concat([
    u32(0x06064b50),
    long(44),
    short(45, 45),
    u32(0),
    u32(0),
    long(count, count, directory.length, start),
  ]);
  const pointer = concat([u32(0x07064b50), u32(0), long(start + directory.length), u32(1)]);
  const shortEnd = concat([u32(0x06054b50), short(0, 0, 0xffff, 0xffff), u32(0xffffffff), u32(0xffffffff), short(0)]);
  return concat([zip.subarray(0, start), directory, longEnd, pointer, shortEnd]);
}

Deno.test("files by torch.save are weights that are read when they are needed, also in archives of 64 bits", () =>
  inTempDir(async (dir) => {
    for (const name of ["float32", "bfloat16", "slices", "ordered"]) {
      const file = join(FIXTURES, `${name}.pt`), tensors = await readTorchStateDict(file);
      const large = join(dir, `${name}.pth`);
      await Deno.writeFile(large, asZip64(await Deno.readFile(file)));
      for (const place of [file, large]) {
        using source = await openCheckpoint(place, "");
        assertEquals(source.names().sort(), [...tensors.keys()].sort());
        for (const [key, { shape, data }] of tensors) {
          assertEquals([source.info(key).shape, await readFloat32(source, key)], [shape, data], `${name}: ${key}`);
        }
      }
    }
    await assertRejects(
      () => openCheckpoint(join(FIXTURES, "transposed.pt"), ""),
      TilereelError,
      "is a view whose numbers are not in order",
    );
  }));

/** Bytes of a pickle: numbers are opcodes, text is itself. */
function pickle(...parts: (number | string | Uint8Array)[]): Uint8Array {
  return concat(
    parts.map((part) =>
      typeof part === "number" ? Uint8Array.of(part) : typeof part === "string" ? new TextEncoder().encode(part) : part
    ),
  );
}

const u32 = (value: number) => new Uint8Array(Uint32Array.of(value).buffer);
const int = (value: number) => pickle("J", u32(value));
/** A number of eight bytes. */
const long = (value: bigint) => pickle(0x8a, 8, new Uint8Array(BigInt64Array.of(value).buffer));
const str = (text: string) => pickle("X", u32(text.length), text);
const tuple = (...items: Uint8Array[]) => pickle("(", ...items, "t");

interface TensorPickle {
  readonly name?: string;
  readonly type?: string;
  readonly key?: string;
  readonly length?: Uint8Array;
  readonly offset?: Uint8Array;
  readonly shape?: Uint8Array[];
  readonly strides?: Uint8Array[];
}

/** An entry of a state dict: unless told otherwise a [2, 3] of the six floats in storage 0. */
function tensor(given: TensorPickle = {}): Uint8Array {
  const { name = "x", type = "FloatStorage", key = "0", length = int(6), offset = int(0) } = given;
  const { shape = [int(2), int(3)], strides = [int(3), int(1)] } = given;
  const storage = pickle(tuple(str("storage"), pickle(`ctorch\n${type}\n`), str(key), str("cpu"), length), "Q");
  const args = tuple(
    storage,
    offset,
    tuple(...shape),
    tuple(...strides),
    pickle(0x89),
    pickle("ccollections\nOrderedDict\n)R"),
  );
  return pickle(str(name), "ctorch._utils\n_rebuild_tensor_v2\n", args, "R");
}

const dict = (...entries: Uint8Array[]) => pickle(0x80, 2, "}(", ...entries, "u.");

const SIX = new Uint8Array(Float32Array.of(1, 2, 3, 4, 5, 6).buffer);

function archive(program: Uint8Array, more: ZipEntry[] = []): Uint8Array<ArrayBuffer> {
  return makeZip([{ name: "a/data.pkl", data: program }, { name: "a/data/0", data: SIX }, ...more]);
}

/** Every refusal is one sentence that names the file. */
async function refused(path: string, bytes: Uint8Array, message: string): Promise<void> {
  await Deno.writeFile(path, bytes);
  await assertRejects(() => readTorchStateDict(path), TilereelError, message);
  await readTorchStateDict(path).catch((error: Error) => {
    assert(error.message.startsWith(path), error.message);
    assert(!/\n|\. /.test(error.message.slice(path.length)) && error.message.length < path.length + 300, error.message);
  });
}

Deno.test("files made by hand: what the refusals below start from is read", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "router.pt");
    const read = async (bytes: Uint8Array) => {
      await Deno.writeFile(path, bytes);
      return [...await readTorchStateDict(path)].map(([name, { shape, data }]) => [name, shape, [...data]]);
    };
    const whole = ["x", [2, 3], [1, 2, 3, 4, 5, 6]];
    assertEquals(await read(archive(dict(tensor()))), [whole]);
    assertEquals(await read(archive(dict(tensor({ length: long(6n) })))), [whole]);
    assertEquals(await read(archive(dict(tensor()), [{ name: "a/byteorder", data: pickle("little") }])), [whole]);
    assertEquals(await read(archive(dict())), []);
    // A scalar, an empty tensor, and a slice with a step.
    assertEquals(await read(archive(dict(tensor({ shape: [], strides: [], offset: int(5) })))), [["x", [], [6]]]);
    assertEquals(await read(archive(dict(tensor({ shape: [int(0), int(3)] })))), [["x", [0, 3], []]]);
    assertEquals(await read(archive(dict(tensor({ shape: [int(3)], strides: [int(2)], offset: int(1) })))), [
      ["x", [3], [2, 4, 6]],
    ]);
    // A comment at the end of the archive.
    const plain = archive(dict(tensor()));
    const comment = plain.slice();
    new DataView(comment.buffer).setUint16(comment.length - 2, 5, true);
    assertEquals(await read(concat([comment, pickle("hello")])), [whole]);
  }));

Deno.test("hostile pickles: one sentence, and nothing is run", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "router.pt");
    const marker = join(dir, "ran");
    const call = (module: string, name: string) =>
      pickle(0x80, 2, `c${module}\n${name}\n`, tuple(str(`touch ${marker}`)), "R.");
    const bad = (program: Uint8Array, message: string) => refused(path, archive(program), message);
    await bad(call("os", "system"), 'it asks for "os.system", which no tensors need');
    await bad(call("posix", "system"), "posix.system");
    await bad(call("builtins", "eval"), "builtins.eval");
    await bad(call("torch._utils", "_rebuild_parameter"), "_rebuild_parameter");
    await bad(pickle(0x80, 4, 0x8c, 2, "os", 0x8c, 6, "system", 0x93, "."), "os.system");
    // The same by opcodes that make instances or reach into extension registries.
    await bad(pickle(0x80, 2, "(", str("true"), "ios\nsystem\n."), "instruction 0x69");
    await bad(pickle(0x80, 2, "(cos\nsystem\n", str("true"), "o."), "os.system");
    await bad(pickle(0x80, 2, 0x82, 1, "."), "instruction 0x82");
    await bad(pickle(0x80, 2, "ctorch\nFloatStorage\n)", 0x81, "."), "instruction 0x81");
    await bad(pickle(0x80, 2, "Pos\n."), "instruction 0x50");
    // Calls of what is known, in ways that are not.
    await bad(
      pickle(0x80, 2, "ctorch\nFloatStorage\n", tuple(int(9)), "R."),
      "it describes a tensor in an unknown way",
    );
    await bad(pickle(0x80, 2, "ccollections\nOrderedDict\n", tuple(str("x")), "R."), "in an unknown way");
    await bad(pickle(0x80, 2, str("x"), ")R."), "calls something that is not a function");
    await bad(pickle(0x80, 2, tuple(str("file"), str("/etc/passwd")), "Q."), "names a storage in an unknown way");
    await bad(pickle(0x80, 2, str("x"), "}b."), "sets attributes of something other than a dict");
    // Not a state dict.
    await bad(pickle(0x80, 2, "N."), "it is not a dict of named tensors");
    await bad(dict(str("x"), int(1)), '"x" in it is not a tensor');
    await bad(dict(int(1), int(1)), "one of its tensors has no name");
    // Damage.
    await bad(pickle(0x80, 9, "}."), "its protocol is 9");
    await bad(pickle(0x80, 2, "}"), "it ends too early");
    await bad(pickle(0x80, 2, "X", u32(0xffffffff), "abc"), "it ends too early");
    await bad(pickle(0x80, 2, "cno newline"), "it ends too early");
    await bad(pickle(0x80, 2, "X", u32(1), 0xff, "."), "not UTF-8");
    await bad(pickle(0x80, 2, "."), "a value that is not there");
    await bad(pickle(0x80, 2, "(."), "a value that is not there");
    await bad(pickle(0x80, 2, "t."), "values that are not there");
    await bad(pickle(0x80, 2, "h", 7, "."), "refers to a value that is not there");
    await bad(pickle(0x80, 2, "NN."), "values left over");
    await bad(pickle(0x80, 2, "}(Nu."), "sets items of no dict");
    await bad(pickle(0x80, 2, 0x8a, 20, new Uint8Array(20).fill(0x7f), "."), "too large");
    // Depth and self-reference cost nothing.
    await bad(
      pickle(0x80, 2, new Uint8Array(200_000).fill(0x29), new Uint8Array(199_999).fill(0x86), "."),
      "not a dict",
    );
    await bad(pickle(0x80, 2, new Uint8Array(200_000).fill(0x28), "."), "a value that is not there");
    await bad(pickle(0x80, 2, "}q", 0, str("x"), "h", 0, "s."), '"x" in it is not a tensor');
    await assertRejects(() => Deno.stat(marker), Deno.errors.NotFound);
  }));

Deno.test("hostile tensors: no byte outside the storage, no more memory than the file's size", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "router.pt");
    const bad = (given: TensorPickle, message: string, more: ZipEntry[] = []) =>
      refused(path, archive(dict(tensor(given)), more), message);
    await bad({ offset: int(1) }, 'tensor "x" reaches past the end of its 6 numbers');
    await bad({ strides: [int(4), int(1)] }, "reaches past the end");
    await bad({ offset: int(-1) }, "it describes a tensor in an unknown way");
    await bad({ strides: [int(-3), int(1)] }, "it describes a tensor in an unknown way");
    await bad({ strides: [int(1)] }, "it describes a tensor in an unknown way");
    await bad({ shape: [long(2n ** 62n), int(3)] }, "too large");
    await bad({ shape: [long(2n ** 52n), int(3)] }, "reaches past the end");
    await bad({ shape: [long(2n ** 52n)], strides: [int(0)] }, "its tensors have 4503599627370496 numbers, but only 6");
    await bad({ shape: Array(9).fill(int(1)), strides: Array(9).fill(int(1)) }, "unknown way");
    await bad({ length: int(7) }, 'tensor "x" needs 28 bytes of numbers, but 24 bytes are there');
    await bad({ length: int(5) }, "needs 20 bytes of numbers, but 24 bytes are there");
    await bad({ length: long(2n ** 50n) }, "but 24 bytes are there");
    await bad({ type: "DoubleStorage" }, "needs 48 bytes of numbers, but 24 bytes are there");
    await bad({ type: "LongStorage" }, '"torch.LongStorage"');
    await bad({ key: "1" }, "but none are there");
    await bad({ key: "../data.pkl" }, "but none are there");
    await bad({}, 'its byte order is "big"', [{ name: "a/byteorder", data: pickle("big") }]);
    const many = dict(...Array.from({ length: 1000 }, (_, i) => tensor({ name: `x${i}` })));
    await refused(path, archive(many), "its tensors have 6000 numbers, but only 6 are there");
    const types = dict(tensor(), tensor({ name: "y", type: "HalfStorage", length: int(12), shape: [], strides: [] }));
    await refused(path, archive(types), 'tensor "y" reads another\'s numbers as another type');
  }));

Deno.test("hostile archives", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "router.pt");
    const data = dict(tensor());
    const good: ZipEntry[] = [{ name: "a/data.pkl", data }, { name: "a/data/0", data: SIX }];
    const bad = (bytes: Uint8Array, message: string) => refused(path, bytes, message);
    const second = (given: Partial<ZipEntry>) => makeZip([good[0]!, { ...good[1]!, ...given }]);
    await bad(second({ method: 8 }), '"a/data/0" is compressed');
    await bad(second({ flags: 1 }), '"a/data/0" is encrypted');
    await bad(second({ stored: 25 }), "has two sizes, 25 and 24");
    await bad(second({ stored: 0x7fffffff, size: 0x7fffffff }), '"a/data/0" reaches past the data');
    await bad(second({ stored: 0xffffffff, size: 0xffffffff }), "the size of an entry is missing");
    await bad(second({ start: 0 }), '"a/data/0" is called something else in its own header');
    await bad(second({ start: 1 }), '"a/data/0" has no header');
    await bad(second({ start: 0x7fffffff }), '"a/data/0" lies outside the data');
    await bad(second({ localName: "a/data/1" }), "is called something else");
    await bad(
      makeZip([{ ...good[0]!, stored: data.length + 30, size: data.length + 30 }, good[1]!]),
      "overlaps another",
    );
    await bad(makeZip([...good, good[1]!]), "two of its entries have the same name");
    await bad(makeZip(good, 3), "its directory ends after 2 of 3 entries");
    await bad(makeZip([good[1]!]), 'it has no "data.pkl"');
    await bad(makeZip([{ name: "model/part/data.pkl", data }]), 'it has no "data.pkl"');
    await bad(makeZip([...good, { name: "b/data.pkl", data }]), 'it has no "data.pkl"');
    await bad(makeZip([]), 'it has no "data.pkl"');
    await bad(new Uint8Array(0), "is a damaged zip archive: its end is missing");
    await bad(pickle("not a zip archive at all"), "its end is missing");

    // Cut short anywhere, or with any one byte of its structure changed, it is refused or read: never anything else.
    const whole = makeZip(good);
    for (let length = 0; length < whole.length; length++) await bad(whole.subarray(0, length), "");
    for (let at = 0; at < whole.length; at++) {
      const changed = whole.slice();
      changed[at]! ^= 0xff;
      await Deno.writeFile(path, changed);
      await readTorchStateDict(path).catch((error) => assert(error instanceof TilereelError, `byte ${at}: ${error}`));
    }
  }));
