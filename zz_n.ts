import { variants } from "./tests/gpu.ts";
import { forwardFamily, runForward } from "./gpu/ops/attention_forward.ts";
import { attend } from "./tests/reference_attention.ts";
const v = (await variants()).find((v) => v.name === "matrix f16")!;
const gpu = v.gpu, D = Number(Deno.args[2] ?? 16);
gpu.poison = false;
const vs = forwardFamily(D).variants(gpu);
for (const n of [1, 33, 100]) {
  const X = Float32Array.from({ length: n * D }, (_, i) => Math.sin(i * i) * Number(Deno.args[1])),
    V = Float32Array.from({ length: n * D }, (_, i) => Math.cos(i * i));
  const x = gpu.upload(X, [1, n, D]), vv = gpu.upload(V, [1, n, D]);
  const y = gpu.tensor([1, n, D]);
  runForward(gpu, vs.get(Deno.args[0]!)!, { heads: 1 }, { q: x, k: x, v: vv, y });
  const out = await gpu.read(y), ref = attend(X, X, V, { batch: 1, queries: n, keys: n, heads: 1, headDim: D });
  const bad = [];
  for (let r = 0; r < n; r++) {
    let e = 0;
    for (let d = 0; d < D; d++) e = Math.max(e, Math.abs(out[r * D + d]! - ref[r * D + d]!));
    if (e > 1e-2) bad.push(r);
  }
  console.log(
    n,
    bad.length,
    bad.slice(0, 12).join(),
    [...out.slice(0, 4)].map((x) => x.toFixed(3)),
    [...ref.slice(0, 4)].map((x) => x.toFixed(3)),
  );
}
Deno.exit(0);
