import { assert, assertEquals, assertRejects } from "@std/assert";
import { removeUnfinished, removeUnfinishedIn } from "../../../gpu/native/replace_file.ts";
import { checkWritable, writeAtomically } from "../../../model/files/output.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";

async function inTempDir(test: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await test(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const names = (dir: string) => [...Deno.readDirSync(dir)].map(({ name }) => name);

Deno.test("a file appears only when it is complete", () =>
  inTempDir(async (dir) => {
    await writeAtomically(`${dir}/a.txt`, async (temporary) => {
      await Deno.writeTextFile(temporary, "half");
      assert(!names(dir).includes("a.txt"));
      await Deno.writeTextFile(temporary, "whole");
    });
    assertEquals(names(dir), ["a.txt"]);
    assertEquals(await Deno.readTextFile(`${dir}/a.txt`), "whole");
  }));

Deno.test("what fails leaves nothing behind and the old file as it was", () =>
  inTempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/a.txt`, "old");
    const failing = writeAtomically(`${dir}/a.txt`, async (temporary) => {
      await Deno.writeTextFile(temporary, "half");
      throw new RangeError("no");
    });
    await assertRejects(() => failing, RangeError, "no");
    assertEquals(names(dir), ["a.txt"]);
    assertEquals(await Deno.readTextFile(`${dir}/a.txt`), "old");
  }));

Deno.test("ended from outside, what is half-written goes", () =>
  inTempDir(async (dir) => {
    const halfWritten = Promise.withResolvers<void>();
    const end = Promise.withResolvers<void>();
    const writing = writeAtomically(`${dir}/frames/`, async (temporary) => {
      await Deno.mkdir(temporary);
      await Deno.writeTextFile(`${temporary}/0001.png`, "half");
      halfWritten.resolve();
      await end.promise;
    });
    await halfWritten.promise;
    assertEquals(names(dir).length, 1);
    removeUnfinished();
    assertEquals(names(dir), []);
    end.resolve();
    await assertRejects(() => writing, TilereelError, "cannot write");
  }));

Deno.test("what another thread or a killed program left half-written goes, and nothing else", () =>
  inTempDir(async (dir) => {
    await writeAtomically(`${dir}/a.txt`, async (temporary) => {
      await Deno.writeTextFile(temporary, "half");
      await Deno.copyFile(temporary, `${dir}/kept.part`);
      const left = temporary.replace(/[0-9a-f]{8}\.part$/, "0123abcd.part");
      await Deno.mkdir(left);
      await Deno.writeTextFile(`${left}/0001.png`, "half");
    });
    removeUnfinishedIn(dir);
    assertEquals(names(dir).sort(), ["a.txt", "kept.part"]);
  }));

Deno.test({
  name: "a full disk is one sentence, and nothing half-written remains",
  // /dev/full is Linux's: whatever is written there meets a full disk.
  ignore: Deno.build.os !== "linux",
  fn: () =>
    inTempDir(async (dir) => {
      const failing = writeAtomically(`${dir}/a.mp4`, async (temporary) => {
        await Deno.symlink("/dev/full", temporary);
        await Deno.writeFile(temporary, new Uint8Array(1000));
      });
      await assertRejects(() => failing, TilereelError, `cannot write ${dir}/a.mp4: the disk is full`);
      assertEquals(names(dir), []);
    }),
});

Deno.test("places that cannot be written are told beforehand, and nothing is made", () =>
  inTempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/file`, "");
    await assertRejects(() => checkWritable(`${dir}/file/a.mp4`), TilereelError, "is a file, not a folder");
    await assertRejects(() => checkWritable(`${dir}/file/b/a.mp4`), TilereelError, "is a file, not a folder");
    await checkWritable(`${dir}/x/y/a.mp4`);
    assertEquals(names(dir), ["file"]);
  }));

Deno.test(
  "a place where nothing can be made is told beforehand",
  { ignore: Deno.build.os !== "linux" },
  () => assertRejects(() => checkWritable("/proc/a/b.mp4"), TilereelError, "cannot write"),
);

Deno.test({
  name: "a link is followed; a device, a pipe and a link that leads nowhere are left alone",
  ignore: Deno.build.os === "windows",
  fn: () =>
    inTempDir(async (dir) => {
      await Deno.mkdir(`${dir}/real`);
      await Deno.writeTextFile(`${dir}/real/a.txt`, "old");
      await Deno.symlink("real/a.txt", `${dir}/link.txt`);
      await Deno.symlink("real/b.txt", `${dir}/nowhere.txt`);
      assertEquals((await new Deno.Command("mkfifo", { args: [`${dir}/pipe`] }).output()).code, 0);
      const write = (temporary: string) => Deno.writeTextFile(temporary, "new");

      await writeAtomically(`${dir}/link.txt`, write);
      assertEquals(await Deno.readTextFile(`${dir}/real/a.txt`), "new");
      assert((await Deno.lstat(`${dir}/link.txt`)).isSymlink);
      for (const [name, message] of [["pipe", "is a device or a pipe"], ["nowhere.txt", "is a broken link"]] as const) {
        const path = `${dir}/${name}`;
        await assertRejects(() => checkWritable(path), TilereelError, message);
        await assertRejects(() => writeAtomically(path, write), TilereelError, message);
      }
      assert((await Deno.lstat(`${dir}/pipe`)).isFifo);
      assertEquals(names(dir).sort(), ["link.txt", "nowhere.txt", "pipe", "real"]);
      assertEquals(names(`${dir}/real`), ["a.txt"]);
    }),
});

Deno.test("a folder in a file's place, and what fails in a folder under way, are told by their names", () =>
  inTempDir(async (dir) => {
    await Deno.mkdir(`${dir}/a.json`);
    const checked = checkWritable(`${dir}/a.json`, { asFile: true });
    await assertRejects(
      () => checked,
      TilereelError,
      "that is a folder, where a file would be written",
    );
    await checkWritable(`${dir}/a.json`);
    // What has that name elsewhere does not count.
    await Deno.symlink("nowhere", `${dir}/b.json`);
    await checkWritable(`${dir}/new/b.json`);
    await Deno.remove(`${dir}/b.json`);
    const failing = writeAtomically(`${dir}/clips/`, async (temporary) => {
      await Deno.mkdir(temporary);
      await writeAtomically(`${temporary}/1.mp4`, () => Promise.reject(Object.assign(new Error(), { code: "ENOSPC" })));
    });
    await assertRejects(
      () => failing,
      TilereelError,
      `cannot write ${dir}/clips/1.mp4: the disk is full; free some space`,
    );
    assertEquals(names(dir), ["a.json"]);
  }));

/** Starts a process that writes to a file and never finishes; gives it once it has begun. */
async function startWriting(path: string): Promise<Deno.ChildProcess> {
  const output = new URL("../../../model/files/output.ts", import.meta.url);
  const code = `const { writeAtomically } = await import("${output}");
    setInterval(() => {}, 1000);
    await writeAtomically(${JSON.stringify(path)}, async (temporary) => {
      await Deno.writeTextFile(temporary, "half");
      console.log("begun");
      await new Promise(() => {});
    });`;
  const child = new Deno.Command(Deno.execPath(), { args: ["eval", code], stdout: "piped" }).spawn();
  const reader = child.stdout.getReader();
  assertEquals(new TextDecoder().decode((await reader.read()).value), "begun\n");
  await reader.cancel();
  return child;
}

Deno.test("the next run removes what a killed one left, and nothing of one that still runs", () =>
  inTempDir(async (dir) => {
    const [killed, alive] = await Promise.all([startWriting(`${dir}/a.txt`), startWriting(`${dir}/b.txt`)]);
    killed.kill("SIGKILL");
    await killed.status;
    const left = names(dir);
    // One of another machine that was begun just now, and one of yesterday.
    const foreign = left[0]!.replace(/\.[0-9a-f]{8}-(?=\d+-\d+\.)/, ".00000000-");
    await Deno.writeTextFile(`${dir}/${foreign}`, "half");
    const old = foreign.replace("00000000", "00000001");
    await Deno.writeTextFile(`${dir}/${old}`, "half");
    await Deno.utime(`${dir}/${old}`, new Date(), Date.now() / 1000 - 2 * 24 * 3600);
    try {
      assertEquals(names(dir).length, 4);
      await writeAtomically(`${dir}/a.txt`, (temporary) => Deno.writeTextFile(temporary, "whole"));
      assertEquals(names(dir).length, 3);
      assert(names(dir).includes(foreign) && names(dir).some((name) => name.startsWith(".b.txt.")), `${names(dir)}`);
    } finally {
      alive.kill("SIGKILL");
      await alive.status;
    }
    assertEquals(await Deno.readTextFile(`${dir}/a.txt`), "whole");
  }));
