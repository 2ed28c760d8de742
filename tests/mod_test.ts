import { assert, assertEquals } from "@std/assert";

/** The example in mod.ts, run as it stands there. */
Deno.test("the library's example runs", async () => {
  const root = new URL("..", import.meta.url).pathname;
  const source = await Deno.readTextFile(`${root}mod.ts`);
  const [, example] = /```ts\n([\s\S]*?)```/.exec(source)!;
  const code = example!.replaceAll(/^ \* ?/gm, "").replace("./mod.ts", new URL("../mod.ts", import.meta.url).href);
  const dir = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${dir}/example.ts`, code);
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--config", `${root}deno.json`, `${dir}/example.ts`],
      cwd: dir,
    }).output();
    assert(success, new TextDecoder().decode(stderr));
    const file = await Deno.readFile(`${dir}/circle.mp4`);
    assertEquals(new TextDecoder().decode(file.subarray(4, 8)), "ftyp");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
