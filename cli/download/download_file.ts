import { createHash, type Hash } from "node:crypto";
import { dirname } from "node:path";
import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import type { Hub, HubFile, HubModel } from "./hub.ts";

/** How often a broken connection is tried again, without any byte between. */
const TRIES = 5;
/** Milliseconds without a byte after which a connection counts as broken. */
const STALLED = 60_000;
/** Milliseconds before the first new try; each further one waits twice as long. */
const WAIT = 1000;

/** The name of a file while it is not complete. What is there is kept, and a later run goes on from its end. */
export const unfinishedName = (path: string) => `${path}.part`;

/**
 * Downloads a file to `target`. Its contents are checked by their digest before it gets that name.
 *
 * @param onBytes told how many more bytes are there, or fewer if they had to be thrown away
 * @throws {TilereelError} if the connection stays broken, or the contents are wrong twice
 */
export async function downloadTo(
  target: string,
  hub: Hub,
  model: HubModel,
  file: HubFile,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const part = unfinishedName(target);
  await Deno.mkdir(dirname(target), { recursive: true });
  for (let attempt = 1;; attempt++) {
    const digest = await complete(part, hub, model, file, onBytes);
    if (digest === file.digest.hex) break;
    await Deno.remove(part);
    onBytes(-file.bytes);
    if (attempt === 2) {
      throw new TilereelError(
        `${quoted(file.path)} arrived damaged twice: its digest is ${digest.slice(0, 12)}…, not ` +
          `${file.digest.hex.slice(0, 12)}…; run the same command again later`,
      );
    }
  }
  await Deno.rename(part, target);
}

/** The digest of a file's contents, as the hub states it. */
export async function digestOf(path: string, { digest, bytes }: HubFile): Promise<string> {
  const hash = startHash(digest.algorithm, bytes);
  using file = await Deno.open(path);
  for await (const chunk of file.readable) hash.update(chunk);
  return hash.digest("hex");
}

function startHash(algorithm: HubFile["digest"]["algorithm"], bytes: number): Hash {
  // Git's digest has the length before the contents.
  return algorithm === "git" ? createHash("sha1").update(`blob ${bytes}\0`) : createHash("sha256");
}

/** Adds to the file what it lacks, whatever breaks on the way. Returns the digest of the whole, which is on the disk. */
async function complete(
  part: string,
  hub: Hub,
  model: HubModel,
  file: HubFile,
  onBytes: (bytes: number) => void,
): Promise<string> {
  const hash = startHash(file.digest.algorithm, file.bytes);
  using out = await Deno.open(part, { create: true, read: true, write: true });
  let { size: there } = await out.stat();
  if (there > file.bytes) {
    await out.truncate();
    there = 0;
  }
  for await (const chunk of firstBytes(out, there)) {
    hash.update(chunk);
    onBytes(chunk.length);
  }
  for (let failures = 0; there < file.bytes;) {
    try {
      const reader = (await hub.read(model, file, there)).getReader();
      try {
        while (there < file.bytes) {
          const { value, done } = await orStalled(reader.read());
          if (done) throw new Error("it ended too early");
          const chunk = value.subarray(0, file.bytes - there);
          await writeAll(out, chunk);
          hash.update(chunk);
          there += chunk.length;
          onBytes(chunk.length);
          failures = 0;
        }
      } finally {
        await reader.cancel().catch(() => {});
      }
    } catch (error) {
      if (error instanceof TilereelError || isLocal(error)) throw error;
      if (++failures === TRIES) {
        const why = error instanceof Error ? error.message : String(error);
        throw new TilereelError(
          `the download of ${quoted(file.path)} broke off ${TRIES} times (${quoted(why)}); ` +
            "run the same command again to go on from there",
        );
      }
      await new Promise((resolve) => setTimeout(resolve, WAIT * 2 ** (failures - 1)));
    }
  }
  await out.sync();
  return hash.digest("hex");
}

/** Whether the error is of this machine's disk: then a new connection does not help. */
function isLocal(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return ["ENOSPC", "EIO", "EROFS", "EDQUOT", "EFBIG"].includes(String(code));
}

/** The first bytes of an open file, which is then at their end. */
async function* firstBytes(file: Deno.FsFile, bytes: number): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(2 ** 20);
  for (let at = 0; at < bytes;) {
    const count = await file.read(buffer.subarray(0, Math.min(buffer.length, bytes - at)));
    if (count === null) return;
    yield buffer.subarray(0, count);
    at += count;
  }
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
}

/** The result, unless it takes too long. */
async function orStalled<T>(work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error("no byte came for a minute")), STALLED);
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}
