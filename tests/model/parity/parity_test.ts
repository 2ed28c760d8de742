import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { planParity } from "../../../model/parity/parity.ts";
import { BOUNDS } from "../../../model/parity/bounds.ts";
import { passes } from "../../../model/parity/case.ts";
import { relativeError } from "../../../gpu/relative_error.ts";
import { errorByGradient, rowError } from "../../../model/parity/measures.ts";
import { adamwStep } from "../../../model/training/adamw.ts";
import { randn } from "../../gpu.ts";
import { ROOT, tilereel } from "../../process.ts";

/** What `tilereel parity` ends with and says. */
async function parity(...args: string[]): Promise<{ code: number; out: string }> {
  const { code, out, err } = await tilereel(["parity", ...args], { cwd: ROOT });
  return { code, out: out + err };
}

/** The small one is checked there, in f32 and f16; the large one over OpenGL, and on GPUs by `deno task parity`. */
const SLOW_OVER_LAVAPIPE = ["demo_pipeline"];
/** Over OpenGL these take minutes: it compiles slowly, and training and large sizes are many kernels, or long ones. */
const SLOW_OVER_GL = ["vorta_train", "veda_c", "veda_search"];

/** Each backend: a bare machine has OpenGL alone, CI has both. What is skipped, and what must be checked. */
const BACKENDS: Record<string, { skip: readonly string[]; parts: readonly string[] }> = {
  gl: { skip: SLOW_OVER_GL, parts: ["demo_pipeline video"] },
  vulkan: {
    skip: SLOW_OVER_LAVAPIPE,
    parts: ["vorta_train losses of 3 steps", "veda_c", "veda_search", "demo_pipeline_small video (f16)"],
  },
};

const PARTS = [
  "tokens",
  "scheduler_",
  "demo_text_encoder",
  "demo_few_steps",
  "tiny_hd128",
  "tiny_wan_i2v",
  "tiny_wan_flf",
  "tiny_wan_ti2v",
  "tiny_wan22_vae",
  "tiny_clip_vision",
  "tiny_hunyuan",
  "tiny_cache first_block.0.5",
  "tiny_cache pab",
  "tiny_lora lora_comfy_diff",
  "tiny_vae",
  "tiny_hunyuan_vae",
  "tiny_llama",
  "tiny_clip_text",
  "tiny_hunyuan_pipeline latents.2",
  "tiny_hunyuan_pipeline video",
  "tiny_wan_i2v_pipeline video",
  "tiny_wan_a14b_pipeline video",
  "tiny_wan_ti2v_pipeline video",
  "demo_pipeline_small video",
  "vorta_attention_a",
  "vorta_hunyuan_a",
  "vorta_hunyuan_train",
  "vorta_eval",
  "vorta_partial",
  "veda_a",
  "veda_authors",
  "veda_second_order",
  "vsa_a",
  "tiny_fastwan output.1",
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

Deno.test("one wrong row of 40,000 is noticed, where the error of all rows passes", () => {
  const rows = 40_000, row = 32;
  const reference = randn(rows * row, 1);
  // As far off everywhere as f16 is, which passes; then one row is lost.
  const noise = randn(rows * row, 2, 1e-3);
  const out = reference.map((x, i) => x + noise[i]!);
  const [all, worst] = BOUNDS.vortaAttention.f16;
  const judge = () => [relativeError(out, reference) <= all, rowError(out, reference, row) <= worst];
  assertEquals(judge(), [true, true]);
  const whole = out.slice(0, row);
  out.set(new Float32Array(row));
  assertEquals(judge(), [true, false]);
  out.set(whole);
  // Every bound of a row notices a row that is lost.
  for (const [part, bounds] of Object.entries(BOUNDS)) {
    for (const [, worst] of Object.values(bounds)) assert(worst < 1, part);
  }
  assertEquals(rowError([1, 2, 3, 4], [1, 2, 3, 4], 2), 0);
  assertEquals(rowError([3, 4, 0, 0], [3, 4, 3, 4], 2), 1);
  assertEquals(rowError([3, 4, 0, NaN], [3, 4, 3, 4], 2), Infinity);
  assertEquals(rowError([3, 4], [3, 4, 3, 4], 2), Infinity);
});

Deno.test("a reference with one row damaged fails by that row alone", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const folder = `${dir}/tiny_umt5`, file = `${folder}/reference.safetensors`;
    await Deno.mkdir(folder);
    for await (const { name } of Deno.readDir(`${ROOT}/tests/fixtures/tiny_umt5`)) {
      await Deno.copyFile(`${ROOT}/tests/fixtures/tiny_umt5/${name}`, `${folder}/${name}`);
    }
    const bytes = await Deno.readFile(file), view = new DataView(bytes.buffer);
    const length = Number(view.getBigUint64(0, true));
    const { last_hidden_state: { shape, data_offsets } } = JSON.parse(
      new TextDecoder().decode(bytes.subarray(8, 8 + length)),
    );
    const first = 8 + length + data_offsets[0], [, worst] = BOUNDS.tinyUmt5.f32;
    for (let i = 0; i < shape.at(-1); i++) {
      const at = first + 4 * i;
      view.setFloat32(at, view.getFloat32(at, true) * (1 + 4 * worst), true);
    }
    await Deno.writeFile(file, bytes);
    const { code, out } = await parity(dir);
    assertEquals(code, 1, out);
    const lines = out.split("\n").filter((line) => line.startsWith("tiny_umt5") && !line.includes("(f16)"));
    assertEquals(lines.map((line) => line.trim().split(/\s+/).at(-1)), ["pass", "FAIL"], out);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("trained routers: rounding in gradients that are nearly nothing is forgiven, a wrong step is not", () => {
  const rows = 24, row = 64;
  const start = randn(rows * row, 1, 0.05), usual = randn(rows * row, 2, 1e-3);
  // One row's gradients cancel out to some 1e-8, which is what AdamW adds to what it divides by.
  const gradient = usual.map((g, i) => i < row ? g * 1e-5 : g), rounding = randn(rows, 3, 1e-9);
  const trained = (gradient: Float32Array, lr: number) => {
    const data = start.slice(), [mean, square] = [new Float32Array(data.length), new Float32Array(data.length)];
    for (let step = 1; step <= 3; step++) adamwStep({ data, gradient, mean, square }, step, { lr, weightDecay: 0.01 });
    return data;
  };
  const expected = trained(gradient, 1e-2);
  const rounded = trained(gradient.map((g, i) => g + rounding[Math.floor(i / row)]!), 1e-2);
  assert(relativeError(rounded, expected) > 1e-3);
  assert(errorByGradient(rounded, expected, gradient, row) < 1e-5);
  assert(errorByGradient(trained(gradient, 1.01e-2), expected, gradient, row) > 1e-3);
  // A row that has a gradient, left out.
  const lost = expected.slice();
  lost.set(start.subarray(row, 2 * row), row);
  assert(errorByGradient(lost, expected, gradient, row) > 1e-2);
});
