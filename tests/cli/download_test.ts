import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { KNOWN_MODELS } from "../../cli/download/known_models.ts";
import { families } from "../../model/families.ts";
import { assertRefused, inTempDir, listFiles, start, tilereel } from "../process.ts";
import { ID, SmallHub } from "./small_hub.ts";

const VAE = "vae/diffusion_pytorch_model.safetensors";
const WANTED = ["model_index.json", "transformer/config.json", "transformer/diffusion_pytorch_model.safetensors", VAE];

/** Runs a test with a hub in a new folder. */
function withHub(test: (hub: SmallHub, dir: string, run: Run) => Promise<void>) {
  return () =>
    inTempDir(async (dir) => {
      await using hub = new SmallHub();
      await test(hub, dir, (args = [ID], env = {}) =>
        tilereel(["download", ...args], { cwd: dir, env: { HF_ENDPOINT: hub.address, HF_TOKEN: "", ...env } }));
    });
}
type Run = (args?: readonly string[], env?: Record<string, string>) => ReturnType<typeof tilereel>;

async function assertComplete(hub: SmallHub, folder: string): Promise<void> {
  assertEquals(listFiles(folder).filter((name) => !name.endsWith("/")), [...WANTED].sort());
  for (const name of WANTED) assertEquals(await Deno.readFile(join(folder, name)), hub.files[name]);
}

Deno.test(
  "a model is downloaded, and a second run finds it complete",
  withHub(async (hub, dir, run) => {
    const { code, out, err } = await run([ID], { HF_TOKEN: "hf_secret" });
    assertEquals(code, 0, err);
    assertStringIncludes(
      out,
      `${ID}: 4 files, 2.92 MiB, to Small-Diffusers\nDownloaded 4 files.\nNext: tilereel generate`,
    );
    await assertComplete(hub, `${dir}/Small-Diffusers`);
    assertEquals([...hub.tokens], ["Bearer hf_secret"]);
    assertEquals(hub.reads.at(-1), ["model_index.json", 0]);
    hub.reads.length = 0;
    assertStringIncludes((await run()).out, "Everything is there already.\n");
    assertEquals(hub.reads, []);

    // Damage that does not change the length is found when asked for.
    await Deno.writeFile(`${dir}/Small-Diffusers/${VAE}`, new Uint8Array(3_000_000));
    assertStringIncludes((await run()).out, "Everything is there already.\n");
    const again = await run([ID, "--verify"]);
    assertStringIncludes(again.err, `${VAE} has other contents than the hub's file, and is downloaded again.`);
    assertStringIncludes(again.out, "Downloaded 1 file; the others were there.");
    await assertComplete(hub, `${dir}/Small-Diffusers`);
  }),
);

Deno.test(
  "a download that was killed goes on where it ended",
  withHub(async (hub, dir) => {
    const half = 2_000_000;
    // The second half never comes.
    hub.answer = (path, bytes) =>
      path === VAE && bytes.length > 1
        ? new ReadableStream({ start: (controller) => controller.enqueue(bytes.slice(0, half)) })
        : bytes as Uint8Array<ArrayBuffer>;
    const at = (name: string) => `${dir}/models/small/${name}`;
    const size = (path: string) => Deno.stat(path).then(({ size }) => size, () => 0);
    const args = ["download", ID, "--local-dir", "models/small"];
    const { process, until, output } = start(dir, "cli/main.ts", args, { HF_ENDPOINT: hub.address });
    await until(async () => await size(at(`${VAE}.part`)) === half);
    process.kill("SIGKILL");
    await output;
    assertEquals([await size(at(VAE)), await size(at("model_index.json"))], [0, 0]);
    hub.answer = (_, bytes) => bytes;
    hub.reads.length = 0;
    assertEquals((await tilereel(args, { cwd: dir, env: { HF_ENDPOINT: hub.address } })).code, 0);
    assertEquals(hub.reads, [[VAE, half], ["model_index.json", 0]]);
    await assertComplete(hub, at(""));
  }),
);

Deno.test(
  "a connection that breaks is opened again, and damaged contents are fetched again",
  withHub(async (hub, dir, run) => {
    let answers = 0;
    hub.answer = (path, bytes) => {
      if (path !== VAE || bytes.length === 1) return bytes;
      answers++;
      if (answers === 1) return bytes.slice(0, 1_000_000);
      if (answers === 2) return bytes.map((byte, i) => i === 5 ? byte ^ 1 : byte);
      return bytes;
    };
    assertEquals((await run()).code, 0);
    assertEquals(hub.reads.filter(([path]) => path === VAE).map(([, from]) => from), [0, 1_000_000, 0]);
    await assertComplete(hub, `${dir}/Small-Diffusers`);

    await Deno.remove(`${dir}/Small-Diffusers/${VAE}`);
    hub.answer = (_, bytes) => bytes.map((byte) => byte ^ 1);
    assertRefusedAfterPlan(await run(), `"${VAE}" arrived damaged twice: its digest is`);
    assert(!listFiles(dir).some((name) => name.includes("vae/diffusion")));
  }),
);

Deno.test("the models that have short names are those that families know, and FastVideo's", () => {
  const known = families().flatMap(({ models = [] }) => models);
  const ids = Object.values(KNOWN_MODELS).filter((id) => !id.startsWith("FastVideo/"));
  assertEquals(ids.toSorted(), known.toSorted());
});

/** The sizes were printed before. */
function assertRefusedAfterPlan(outcome: Awaited<ReturnType<Run>>, message: string): void {
  assertRefused({ ...outcome, out: "" }, message);
}

Deno.test(
  "what cannot be downloaded is refused in one sentence",
  withHub(async (hub, dir, run) => {
    assertRefused(
      await run(["Owner/Nothing"]),
      "127.0.0.1:" + new URL(hub.address).port + ' has no model "Owner/Nothing"',
    );
    assertRefused(await run(["Owner/Secret"]), 'has no public model "Owner/Secret"; check the name, or set HF_TOKEN');
    assertRefused(await run(["Owner/Secret"], { HF_TOKEN: "hf_x" }), "does not let this HF_TOKEN read");
    assertRefused(
      await run([ID], { HF_TOKEN: "x" }),
      "HF_TOKEN must be a token of Hugging Face, which begins with hf_",
    );
    assertRefused(await run([]), "the model to download is missing; name one of wan-1.3b,");
    assertRefused(await run(["wan-1.3"]), '"wan-1.3" is not the name of a model: did you mean wan-1.3b?');
    assertRefused(await run([ID], { HF_ENDPOINT: "file:///etc" }), "HF_ENDPOINT must be an address that begins with");
    assertRefused(await run([ID], { HF_ENDPOINT: "http://127.0.0.1:1" }), "127.0.0.1:1 cannot be reached");
    for (const path of ["../x.json", "a/../../x.json", "a\\b.json", "/etc/x.json", "C:x.json"]) {
      hub.listed = [{ path, size: 1, type: "file", oid: "" } as SmallHub["listed"][number]];
      assertRefused(await run(), "which is not safe to write; it is refused");
    }
    hub.listed = [{ path: "huge.safetensors", size: 1e17, type: "file" } as SmallHub["listed"][number]];
    assertRefusedAfterPlan(await run(), "are missing; make room, or name a folder on another disk with --local-dir");
    hub.listed = [];
    assertEquals(listFiles(dir), ["Small-Diffusers/"]);

    const one = await run([ID, "--dry-run", "--only", "vae", "--local-dir", "other"]);
    assertStringIncludes(one.out, `${ID}: 1 file, 2.86 MiB, to other`);
    assertRefused(
      await run([ID, "--only", "vae,t5"]),
      `${ID} has no part "t5"; name some of transformer, vae`,
    );
    const { out, code } = await run([ID, "--dry-run", "--local-dir", "other"]);
    assertEquals(code, 0);
    assertStringIncludes(out, `2.86 MiB  ${VAE}`);
    assertEquals(listFiles(dir), ["Small-Diffusers/"]);
  }),
);
