import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { execute, MODEL, program, ROOT } from "../process.ts";

/** The results of one prompt in one step at 32x32. */
async function quality(...options: string[]): Promise<{ setting: string; clips: { ssim: number }[] }[]> {
  const args = ["--count", "1", "--size", "32x32", "--steps", "1", "--json", ...options];
  const env = { NO_COLOR: "1" };
  const { code, out, err } = await execute(Deno.execPath(), program("bench/quality.ts", args), { cwd: ROOT, env });
  assertEquals(code, 0, err);
  return JSON.parse(out).results;
}

Deno.test("bench:quality renders a setting with its own steps and guidance", async () => {
  const settings = ["same: full scheduler=unipc", "steps: full steps=2", "unguided: full guidance=1"];
  const [full, ...others] = await quality(...settings.flatMap((s) => ["--setting", s]));
  assertEquals([full!.setting, full!.clips], ["full", []]);
  assertEquals(others.map(({ setting }) => setting), ["same", "steps", "unguided"]);
  const likeness = others.map(({ clips }) => clips[0]!.ssim);
  assert(likeness[0]! === 1 && likeness[1]! < 0.999 && likeness[2]! < 0.999, `SSIM against full: ${likeness}`);
});

Deno.test("bench:quality renders in other precisions, too, and compares them with the first", async () => {
  const [full, unguided, ...others] = await quality(
    "--also",
    "int8",
    "--setting",
    "unguided: full guidance=1",
    "--size",
    "64x64",
  );
  assertEquals([full!.setting, unguided!.setting], ["full", "unguided"]);
  assertEquals(others.map(({ setting }) => setting), ["full, int8", "unguided, int8"]);
  const [same, other] = others.map(({ clips }) => clips[0]!.ssim);
  assert(same! > 0.98 && same! < 1 && other! < 0.999, `SSIM against full: ${same} and ${other}`);
});

Deno.test("bench:quality adds a LoRA for settings, but not for full attention", async () => {
  const lora = join(MODEL, "few_steps.safetensors"), setting = "same: full scheduler=unipc";
  const [, same] = await quality("--setting", setting, "--lora", lora);
  assert(same!.clips[0]!.ssim < 0.999, `SSIM against full: ${same!.clips[0]!.ssim}`);
});
