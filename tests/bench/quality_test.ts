import { assert, assertEquals } from "@std/assert";
import { execute, program, ROOT } from "../process.ts";

Deno.test("bench:quality renders a setting with its own steps and guidance", async () => {
  const settings = ["same: full scheduler=unipc", "steps: full steps=2", "unguided: full guidance=1"];
  const args = [
    "--count",
    "1",
    "--size",
    "32x32",
    "--steps",
    "1",
    "--json",
    ...settings.flatMap((s) => ["--setting", s]),
  ];
  const env = { NO_COLOR: "1" };
  const { code, out, err } = await execute(Deno.execPath(), program("bench/quality.ts", args), { cwd: ROOT, env });
  assertEquals(code, 0, err);
  const [full, ...others] = JSON.parse(out).results as { setting: string; clips: { ssim: number }[] }[];
  assertEquals([full!.setting, full!.clips], ["full", []]);
  assertEquals(others.map(({ setting }) => setting), ["same", "steps", "unguided"]);
  const likeness = others.map(({ clips }) => clips[0]!.ssim);
  assert(likeness[0]! === 1 && likeness[1]! < 0.999 && likeness[2]! < 0.999, `SSIM against full: ${likeness}`);
});
