import { assert, assertEquals, assertRejects } from "@std/assert";
import { dirname } from "node:path";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { readJsonObject } from "../../../model/checkpoint/json.ts";
import { openModelFolder } from "../../../model/checkpoint/model_folder.ts";
import { openSafetensors } from "../../../model/checkpoint/safetensors.ts";
import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import { fileAt, folderAt } from "../../../model/files/disk.ts";
import { isNotFound } from "../../../model/files/file_error.ts";
import { blobFolder } from "../../../model/files/blobs.ts";
import { cachedFolder } from "../../../model/files/cached.ts";
import { httpFolder } from "../../../model/files/http.ts";
import { folderOf, memoryFile, memoryFolder } from "../../../model/files/memory.ts";
import { type FileStore, readBytes, type StoredFile } from "../../../model/files/store.ts";
import { modelIdentity } from "../../../model/identity/model_identity.ts";
import { readPicture } from "../../../model/video/read/picture.ts";
import { loadVeda } from "../../../model/veda/veda_file.ts";
import { loadRouter } from "../../../model/vorta/router_file.ts";
import { inTempDir, MODEL } from "../../process.ts";
import { filesIn } from "./files_in.ts";
import { ggufBytes } from "../checkpoint/gguf_bytes.ts";

const text = (text: string) => new TextEncoder().encode(text);
const FILES = { "a.txt": text("letters"), "part/config.json": text("{}"), "part/deep/b.txt": text("b") };

/** What stores do that can list. */
async function checkFolders(store: FileStore): Promise<void> {
  assertEquals((await store.list()).sort(), ["a.txt", "part"]);
  assertEquals(await store.folder("part/deep").list(), ["b.txt"]);
  assertEquals(await store.file("part").kind(), "folder");
  assertEquals(await store.folder("no/such").kind(), undefined);
  await assertRejects(() => store.folder("no").list(), TilereelError, "no does not exist");
  assert(await store.folder("no").list().then(() => false, isNotFound));
  await checkFiles(store);
}

/** What every store does. */
async function checkFiles(store: FileStore): Promise<void> {
  assertEquals(await store.kind(), "folder");
  assertEquals(await store.folder("part").kind(), "folder");
  assertEquals(await store.file("a.txt").kind(), "file");
  assertEquals(await store.file("b.txt").kind(), undefined);
  const deep = store.folder("part").file("deep/b.txt");
  assertEquals([deep.path, deep.name], [`${store.path}/part/deep/b.txt`, "b.txt"]);
  assertEquals(deep.parent?.name, "deep");
  assertEquals(await deep.parent!.parent!.file("config.json").kind(), "file");
  assertEquals(new TextDecoder().decode(await readBytes(deep)), "b");

  using source = await store.file("a.txt").open();
  assertEquals([source.path, source.size], [`${store.path}/a.txt`, 7]);
  const parts = [[0, 3], [3, 4], [2, 2]].map(async ([start, length]) => {
    const into = new Uint8Array(length!);
    await source.read(start!, into);
    return new TextDecoder().decode(into);
  });
  assertEquals(await Promise.all(parts), ["let", "ters", "tt"]);
  await assertRejects(() => source.read(5, new Uint8Array(3)), TilereelError, "ended while it was read");

  await assertRejects(() => store.file("no").open("a picture"), TilereelError, "a picture was expected");
  assert(await store.file("no").open().then(() => false, isNotFound));
}

Deno.test("a folder in memory", () => checkFolders(memoryFolder(FILES, "dropped")));

Deno.test("a folder of blobs", () => {
  const blobs = Object.entries(FILES).map(([name, bytes]) => [name, new Blob([bytes])] as const);
  return checkFolders(blobFolder(new Map(blobs), "dropped"));
});

Deno.test("a folder at an address is read by ranges, and a model is identified there as on disk", async () => {
  const models = await filesIn(MODEL), files: Record<string, Uint8Array> = { ...FILES, ...models };
  let ranges = true;
  await using server = Deno.serve({ port: 0, onListen: () => {} }, ({ url, method, headers }) => {
    const bytes = files[new URL(url).pathname.slice(1)];
    if (!bytes) return new Response(null, { status: 404 });
    const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(headers.get("range") ?? "") ?? [];
    if (method === "HEAD") return new Response(null, { headers: { "content-length": String(bytes.length) } });
    if (start === undefined || !ranges) return new Response(bytes.slice());
    return new Response(bytes.slice(Number(start), Number(end) + 1), { status: 206 });
  });
  const store = httpFolder(`http://localhost:${server.addr.port}`);
  await checkFiles(store);
  await assertRejects(() => store.list(), TilereelError, "cannot be listed");
  const folder = await openModelFolder(store), onDisk = await openModelFolder(MODEL);
  using model = await folder.family.open(folder);
  const name = model.weights.names()[0]!, bytes = await model.weights.read(name);
  using weights = await openCheckpoint(await onDisk.component("transformer"), "diffusion_pytorch_model");
  assertEquals(bytes, await weights.read(name));
  const listed = httpFolder(store.path, { files: Object.keys(models) });
  assertEquals(await modelIdentity(await openModelFolder(listed)), await modelIdentity(onDisk));
  const vae = "vae/diffusion_pytorch_model.safetensors", parts = (store: FileStore) => ({ vae: store.file(vae) });
  assertEquals(
    await modelIdentity(await openModelFolder(listed, parts(store))),
    await modelIdentity(await openModelFolder(MODEL, parts(folderAt(MODEL)))),
  );
  ranges = false;
  await assertRejects(() => readBytes(store.file("a.txt")), TilereelError, "came as 0 bytes (200)");
});

Deno.test("requests that fail for once are repeated, and compressed answers do not hide the size", async () => {
  const bytes = FILES["a.txt"];
  let asked = 0;
  await using server = Deno.serve({ port: 0, onListen: () => {} }, ({ headers }) => {
    asked++;
    const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(headers.get("range") ?? "") ?? [];
    // The first request of the size fails, then the first one of bytes, which end too early.
    if (asked === 1) return new Response(null, { status: 503 });
    if (asked === 3) return new Response(bytes.slice(0, 2), { status: 206 });
    if (start === undefined) return new Response(null, { headers: { "content-encoding": "gzip" } });
    const range = `bytes ${start}-${end}/${bytes.length}`;
    return new Response(bytes.slice(Number(start), Number(end) + 1), {
      status: 206,
      headers: { "content-range": range },
    });
  });
  const ending = new AbortController(), address = `http://localhost:${server.addr.port}`;
  const file = httpFolder(address, { signal: ending.signal }).file("a.txt");
  assertEquals([new TextDecoder().decode(await readBytes(file)), asked], ["letters", 4]);
  ending.abort(new Error("cancelled"));
  await assertRejects(() => readBytes(file), Error, "cancelled");
  assertEquals(asked, 4);
});

Deno.test("a folder keeps what was read of another one", async () => {
  const kept = new Map<string, Uint8Array>();
  await checkFolders(cachedFolder(memoryFolder(FILES), kept));
  let reads = 0;
  const counted = folderOf(
    new Map([["a.txt", () => ({
      ...{ path: "memory/a.txt", size: 7, [Symbol.dispose]: () => {} },
      read: (start: number, into: Uint8Array) => {
        reads++;
        into.set(FILES["a.txt"].subarray(start, start + into.length));
        return Promise.resolve();
      },
    })]]),
    "memory",
  );
  kept.clear();
  const file = cachedFolder(counted, kept).file("a.txt"), first = await readBytes(file);
  first.fill(0);
  assertEquals([new TextDecoder().decode(await readBytes(file)), reads], ["letters", 1]);
});

Deno.test("a file in memory in place of a model is recognised", async () => {
  const refused = (path: string, message: string) =>
    assertRejects(() => openModelFolder(memoryFolder(files, "dropped").folder(path)), TilereelError, message);
  const files = {
    "x.gguf": ggufBytes({}),
    "m/model_index.json": text("{}"),
    "m/vae/config.json": text("{}"),
  };
  await refused("x.gguf", 'dropped/x.gguf is a GGUF file (of architecture "wan") with nothing, but');
  await refused("m/model_index.json", "name its folder, dropped/m");
  await refused("m/vae/config.json", "name the model's folder, dropped/m");
});

/** The same store, as one that can neither list nor tell folders. */
function unlisted(store: FileStore): FileStore {
  return {
    ...{ path: store.path, name: store.name, parent: store.parent && unlisted(store.parent) },
    kind: () => Promise.resolve("folder"),
    list: () => Promise.reject(new TilereelError(`${store.path} cannot be listed`)),
    folder: (name) => unlisted(store.folder(name)),
    file(name) {
      const file = store.file(name), { path, parent } = file;
      const kind = async () => await file.kind() === "file" ? "file" as const : undefined;
      return { path, name: file.name, parent: parent && unlisted(parent), kind, open: (wanted) => file.open(wanted) };
    },
  };
}

Deno.test("a store that cannot list holds models", async () => {
  await checkFiles(unlisted(memoryFolder(FILES)));
  const store = unlisted(memoryFolder(await filesIn(MODEL))), folder = await openModelFolder(store);
  using model = await folder.family.open(folder);
  assert(model.weights.names().length > 0);
  await assertRejects(() => openModelFolder(store.folder("vae")), TilereelError, "is a part of a model");
  await assertRejects(() => openCheckpoint(store, "model"), TilereelError, "memory holds no weights");
});

Deno.test("a folder on disk", () =>
  inTempDir(async (dir) => {
    for (const [name, bytes] of Object.entries(FILES)) {
      await Deno.mkdir(dirname(`${dir}/${name}`), { recursive: true });
      await Deno.writeFile(`${dir}/${name}`, bytes);
    }
    await checkFolders(folderAt(dir));
    assertEquals(folderAt(`${dir}/`).file("a.txt").path, `${dir}/a.txt`);
    await assertRejects(() => fileAt(dir).open("a picture"), TilereelError, "is a folder, but a picture was expected");
    assertEquals(fileAt("a/b").parent?.path, `${Deno.cwd()}/a`);
    assertEquals(fileAt("b").parent?.path, Deno.cwd());
    assertEquals([folderAt("/a/").parent?.path, folderAt("/").parent], ["/", undefined]);
  }));

Deno.test("a model, a router and tiles are read from memory as from disk", async () => {
  const store = memoryFolder(await filesIn(MODEL));
  const folder = await openModelFolder(store), onDisk = await openModelFolder(MODEL);
  assertEquals(folder.generation, onDisk.generation);
  using a = await openCheckpoint(await folder.component("transformer"), "diffusion_pytorch_model");
  using b = await openCheckpoint(await onDisk.component("transformer"), "diffusion_pytorch_model");
  assertEquals(a.names(), b.names());
  const name = a.names()[0]!;
  assertEquals(await a.read(name), await b.read(name));
  const router = memoryFile("router.safetensors", await readBytes(store.file("router.safetensors")));
  assertEquals((await loadRouter(router)).settings, (await loadRouter(`${MODEL}/router.safetensors`)).settings);
  assertEquals(
    (await loadVeda(store.file("tiles.safetensors"))).keep,
    (await loadVeda(`${MODEL}/tiles.safetensors`)).keep,
  );
  await assertRejects(
    () => openModelFolder(store.folder("vae")),
    TilereelError,
    "is a part of a model; name the model's",
  );
  await assertRejects(() => openModelFolder(store.folder("no")), TilereelError, "memory/no does not exist");
});

Deno.test("rows that lie together are read together, and each row once", async () => {
  const rows = 1000, columns = 1000;
  const header = text(JSON.stringify({ t: { dtype: "F32", shape: [rows, columns], data_offsets: [0, 4e6] } }));
  const bytes = new Uint8Array(8 + header.length + 4e6);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
  bytes.set(header, 8);
  const numbers = Float32Array.from({ length: rows * columns }, (_, i) => Math.floor(i / columns));
  bytes.set(new Uint8Array(numbers.buffer), 8 + header.length);
  const reads: number[] = [], stored = memoryFile("t.safetensors", bytes);
  const counting: StoredFile = {
    ...{ path: stored.path, name: stored.name, parent: undefined, kind: () => stored.kind() },
    async open() {
      const source = await stored.open();
      const read = (start: number, into: Uint8Array) => {
        reads.push(into.length);
        return source.read(start, into);
      };
      return { path: source.path, size: source.size, read, [Symbol.dispose]: () => {} };
    },
  };
  using source = await openSafetensors(counting);
  reads.length = 0;
  const wanted = [7, 3, 7, 900, 5, 901, 3], found = new Float32Array((await source.readRows("t", wanted)).buffer);
  assertEquals(wanted.map((_, i) => found[i * columns + columns - 1]), wanted);
  assertEquals(reads, [5 * 4 * columns, 2 * 4 * columns]);
  assertEquals((await source.readRows("t", [])).length, 0);
});

Deno.test({
  name: "a pipe is refused at once, and a file that is too large before it is read",
  ignore: Deno.build.os === "windows",
  fn: () =>
    inTempDir(async (dir) => {
      const pipe = `${dir}/pipe.png`, large = `${dir}/config.json`;
      assertEquals((await new Deno.Command("mkfifo", { args: [pipe] }).output()).code, 0);
      for (const open of [openSafetensors, readPicture, (path: string) => readBytes(fileAt(path))]) {
        await assertRejects(() => open(pipe), TilereelError, `${pipe} is a device or a pipe, but a`);
      }
      await Deno.writeFile(large, new Uint8Array());
      await Deno.truncate(large, 2 ** 40);
      await assertRejects(
        () => readJsonObject(large),
        TilereelError,
        `${large} has 1.00 TiB, but a JSON file of at most`,
      );
    }),
});
