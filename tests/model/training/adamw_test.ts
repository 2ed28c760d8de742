import { assert, assertEquals } from "@std/assert";
import { type AdamWParameter, adamwStep, clipGradients } from "../../../model/training/adamw.ts";
import { randn } from "../../gpu.ts";

/** Made by tools/references/router_files.py with torch.optim.AdamW and clip_grad_norm_. */
const torch: { start: number[][]; steps: { gradients: number[][]; norm: number; after: number[][] }[] } =
  JSON.parse(await Deno.readTextFile(new URL("../../fixtures/router/expected.json", import.meta.url))).adamw;

function parameter(start: ArrayLike<number>): AdamWParameter {
  const data = Float32Array.from(start);
  const zeros = () => new Float32Array(data.length);
  return { data, gradient: zeros(), mean: zeros(), square: zeros() };
}

function assertNear(actual: ArrayLike<number>, expected: ArrayLike<number>, bound: number, what: string): void {
  assertEquals(actual.length, expected.length, what);
  for (let i = 0; i < actual.length; i++) {
    assert(Math.abs(actual[i]! - expected[i]!) <= bound, `${what}[${i}] is ${actual[i]}, not ${expected[i]}`);
  }
}

Deno.test("three clipped steps are PyTorch's", () => {
  const parameters = torch.start.map(parameter);
  for (const [i, { gradients, norm, after }] of torch.steps.entries()) {
    for (const [p, { gradient }] of parameters.entries()) gradient.set(gradients[p]!);
    const own = clipGradients(parameters.map(({ gradient }) => gradient), 1);
    assertNear([own], [norm], 1e-6 * norm, `norm of step ${i + 1}`);
    for (const one of parameters) adamwStep(one, i + 1, { lr: 1e-2, weightDecay: 0.01 });
    // Steps are about 1e-2 long, numbers about 1: two units in the last place of a float32.
    for (const [p, { data }] of parameters.entries()) assertNear(data, after[p]!, 2.4e-7, `step ${i + 1}`);
  }
});

Deno.test("many steps against the formula in float64", () => {
  const [lr, weightDecay, steps] = [0.05, 0.3, 50];
  const one = parameter(randn(7, 1));
  const x = Float64Array.from(one.data), m = new Float64Array(7), v = new Float64Array(7);
  for (let t = 1; t <= steps; t++) {
    const g = randn(7, 10 + t, t % 2 === 0 ? 1 : 1e-3);
    one.gradient.set(g);
    adamwStep(one, t, { lr, weightDecay });
    for (let i = 0; i < 7; i++) {
      x[i]! -= lr * weightDecay * x[i]!;
      m[i] = 0.9 * m[i]! + 0.1 * g[i]!;
      v[i] = 0.999 * v[i]! + 0.001 * g[i]! ** 2;
      x[i]! -= lr * (m[i]! / (1 - 0.9 ** t)) / (Math.sqrt(v[i]! / (1 - 0.999 ** t)) + 1e-8);
    }
  }
  assertNear(one.data, x, 2e-6, "x");
});

Deno.test("gradients are scaled together, and only down", () => {
  const [a, b] = [Float32Array.of(3, 0), Float32Array.of(-4)];
  assertEquals(clipGradients([a, b], 10), 5);
  assertEquals([[...a], [...b]], [[3, 0], [-4]]);
  assertEquals(clipGradients([a, b], 1), 5);
  assertNear([...a, ...b], [0.6, 0, -0.8], 1e-6, "clipped");
  assertEquals(clipGradients([new Float32Array(3)], 1), 0);
});
