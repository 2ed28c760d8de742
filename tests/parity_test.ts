import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { TilereelError } from "../errors.ts";
import { planParity } from "../model/parity/parity.ts";
import { passes } from "../model/parity/case.ts";
import { relativeError } from "../model/parity/measures.ts";
import { ROOT, tilereel } from "./process.ts";

/** What `tilereel parity` ends with and says. */
async function parity(...args: string[]): Promise<{ code: number; out: string }> {
  const { code, out, err } = await tilereel(["parity", ...args], { cwd: ROOT });
  return { code, out: out + err };
}

/** Over OpenGL these take minutes: it compiles slowly, and training and large sizes are many kernels, or long ones. */
const SLOW_OVER_GL = ["vorta_train", "veda_c", "veda_search"];

/** Each backend: a bare machine has OpenGL alone, CI has both. What is skipped, and what must be checked. */
const BACKENDS: Record<string, { skip: readonly string[]; parts: readonly string[] }> = {
  gl: { skip: SLOW_OVER_GL, parts: [] },
  vulkan: { skip: [], parts: ["vorta_train losses of 3 steps", "veda_c", "veda_search"] },
};

const PARTS = [
  "tokens",
  "scheduler_",
  "demo_text_encoder",
  "tiny_hd128",
  "tiny_vae",
  "demo_pipeline video",
  "vorta_attention_a",
  "vorta_eval",
  "veda_a",
];

/** The backends that have an adapter here, each asked for in a process of its own: Deno settles on one for good. */
const found = await Promise.all(
  Object.keys(BACKENDS).map(async (backend) => {
    const { out, err } = await tilereel(["info", "--gpu", backend, "--json"]);
    assert(out, err);
    return JSON.parse(out).adapters.length > 0 ? [backend] : [];
  }),
).then((names) => names.flat());

/** The one that is used here. OpenGL is used where there is nothing else, and CI tests that, too. */
const used = found.includes("vulkan") ? "vulkan" : found[0];

Deno.test("there is a backend to check parity on", () => assert(used !== undefined));

for (const [backend, { skip, parts }] of Object.entries(BACKENDS)) {
  Deno.test(`every part agrees with its references, ${backend}`, { ignore: backend !== used }, async () => {
    const { code, out } = await parity("--gpu", backend, ...skip.flatMap((name) => ["--skip", name]));
    assertEquals(code, 0, out);
    for (const part of [...PARTS, ...parts]) assertStringIncludes(out, part);
    for (const name of skip) assert(!out.includes(`${name} `), out);
  });
}

Deno.test("one number off by too much fails, and the exit status says so", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const bytes = await Deno.readFile(`${ROOT}/tests/fixtures/scheduler_shift3_steps8.safetensors`);
    bytes[bytes.length - 2]! ^= 0x10; // in the last tensor's last number: its exponent's low bits
    await Deno.writeFile(`${dir}/scheduler_shift3_steps8.safetensors`, bytes);
    const { code, out } = await parity(dir);
    assertEquals(code, 1, out);
    assertStringIncludes(out, "FAIL");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("a folder without cases is an error", async () => {
  const dir = await Deno.makeTempDir();
  await Deno.writeTextFile(`${dir}/notes.txt`, "nothing");
  await assertRejects(() => planParity(dir), TilereelError, "no parity case");
  await assertRejects(() => planParity(`${dir}/none`), TilereelError, "is not a folder");
  await Deno.writeTextFile(`${dir}/tokens.json`, "{}");
  assertEquals((await planParity(dir)).unknown, ["notes.txt"]);
  await assertRejects(() => planParity(dir, ["notes"]), TilereelError, 'there is no case "notes" to skip in');
  await assertRejects(() => planParity(dir, ["tokens"]), TilereelError, "no parity case");
  await Deno.remove(dir, { recursive: true });
});

Deno.test("measures tell good from bad", () => {
  assertEquals(relativeError([3, 4], [3, 4]), 0);
  assertEquals(relativeError([3, 5], [3, 4]), 0.2);
  assertEquals(relativeError([3, NaN], [3, 4]), Infinity);
  assertEquals(relativeError([3], [3, 4]), Infinity);
  assert(passes({ name: "", value: 60, unit: "dB", bound: 50 }));
  assert(!passes({ name: "", value: 40, unit: "dB", bound: 50 }));
  assert(!passes({ name: "", value: 2e-4, unit: "relative", bound: 1e-4 }));
});
