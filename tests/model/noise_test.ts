import { assert, assertEquals } from "@std/assert";
import { openSafetensors, readFloat32 } from "../../model/checkpoint/safetensors.ts";
import { Noise, normalNumbers, randn } from "../../model/noise.ts";

Deno.test("noise is torch's", async () => {
  // fixtures.py drew these latents with torch.Generator("cpu").manual_seed(105).
  using source = await openSafetensors(new URL("../fixtures/demo_pipeline.safetensors", import.meta.url).pathname);
  const expected = await readFloat32(source, "latents.init");
  const noise = randn(expected.length, 105);
  const furthest = noise.reduce((most, x, i) => Math.max(most, Math.abs(x - expected[i]!)), 0);
  assert(furthest < 5e-6, `off by ${furthest}`); // torch takes logarithm and cosine in f32
});

Deno.test("a count that is no multiple of 16 is filled to the end", () => {
  const noise = randn(37, 1);
  assertEquals(noise.length, 37);
  assert(noise.every((x) => Number.isFinite(x) && x !== 0));
  assertEquals(noise.subarray(0, 16), randn(16, 1));
});

Deno.test("seeds differ", () => assert(randn(16, 1)[0] !== randn(16, 2)[0]));

Deno.test("a generator goes on where it stopped", () => {
  const draw = normalNumbers(7), all = randn(96, 7);
  assertEquals([...draw(64), ...draw(32)], [...all]);
});

Deno.test("noise that is drawn ahead is the next, and counts when it is used", () => {
  const noise = new Noise(7), ahead = new Noise(7);
  ahead.drawAhead(32);
  assertEquals(ahead.draws, 0);
  for (const draws of [1, 2]) assertEquals([[...ahead.draw(32)], ahead.draws], [[...noise.draw(32)], draws]);
});
