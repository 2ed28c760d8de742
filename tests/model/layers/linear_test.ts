import { noise } from "../../../gpu/tuning/noise.ts";
import { Gpu } from "../../../gpu/gpu.ts";
import { PackedOperand } from "../../../gpu/ops/packed_operand.ts";
import { quantiseInto } from "../../../gpu/ops/quantise.ts";
import { Tape } from "../../../gpu/tape.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import { Linear } from "../../../model/layers/linear.ts";
import { packHalves } from "../../../gpu/ops/pack_halves.ts";
import { assert, assertEquals } from "@std/assert";
import { assertClose, testVariants } from "../../gpu.ts";

const [OUT, IN] = [1024, 32];
/** Rows of large products, of small ones, and of a few. */
const ROWS = [2600, 300, 5, 2600] as const;

testVariants("a layer that packs its weight once gives bit for bit what others do", async ({ gpu: given }) => {
  for (const int8 of [false, true]) {
    const gpu = new Gpu(given.device, { ...given.settings, int8 });
    gpu.poison = true;
    using owned = new TensorOwner(gpu);
    const made = (): { weight: Tensor; scale?: Tensor } => {
      const weight = noise(gpu, [OUT, IN], "bf16");
      if (!int8) return { weight };
      const y = gpu.tensor([OUT, IN], "i8"), scale = gpu.tensor([OUT]);
      quantiseInto(gpu, weight, y, scale, undefined);
      return { weight: y, scale };
    };
    const plain = made(), own = made();
    let held = owned.adopt(own.weight), replaced = 0;
    const replace = (by: Tensor) => {
      owned.adopt(by);
      owned.free(held);
      held = by;
      replaced++;
    };
    const others = new Linear(plain.weight, undefined, false, plain.scale);
    const layer = new Linear(own.weight, undefined, false, own.scale, replace);
    for (const rows of ROWS) {
      const x = noise(gpu, [1, rows, IN]), run = (linear: Linear) => gpu.readBytes(linear.apply(gpu, x));
      assertEquals(await run(layer), await run(others), `${rows} rows`);
      const columns = (linear: Linear) => linear.ofInputs(gpu, 16, 16, { bias: false });
      const part = noise(gpu, [1, rows, 16]);
      const [a, b] = [layer, others].map((linear) => gpu.readBytes(columns(linear).apply(gpu, part)));
      assertEquals(await a, await b);
    }
    // The last form is that of the first.
    assert(layer.weight instanceof PackedOperand && replaced >= 2, `${replaced} times`);
    const x = noise(gpu, [1, 70, IN]);
    const gradients = [layer, others].map((linear) =>
      gpu.scope(() => {
        const tape = new Tape([x], "f16"), y = gpu.taping(tape, () => linear.apply(gpu, x));
        return tape.gradients(gpu, y, noise(gpu, y.shape), [x])[0]!;
      })
    );
    const [mine, theirs] = await Promise.all(gradients.map((gradient) => gpu.readBytes(gradient)));
    assertEquals(mine, theirs);
  }
}, ({ gpu }) => gpu.matrixUnits !== undefined);

testVariants("a layer rounds its output to f16, frees its input, and goes in parts", async ({ gpu: given }) => {
  for (const int8 of [false, true]) {
    const gpu = new Gpu(given.device, { ...given.settings, int8 }), rows = 328, x = noise(gpu, [1, rows, IN]);
    const { tensor, scale } = PackedOperand.of(gpu, noise(gpu, [OUT, IN], "bf16"), { numbers: "i8" });
    const layer = int8 ? new Linear(tensor, undefined, false, scale) : new Linear(noise(gpu, [OUT, IN], "bf16"));
    const y = layer.apply(gpu, x), expected = await gpu.readBytes(y), halves = layer.applyHalves(gpu, x);
    const rounded = halves.format.name === "f16" ? packHalves(gpu, y) : y;
    assertEquals(await gpu.readBytes(halves), await gpu.readBytes(rounded));
    assertEquals(layer.givesHalves(gpu, x), rounded !== y);
    const into = gpu.tensor(y.shape, "f16");
    assertEquals(await gpu.readBytes(layer.applyHalves(gpu, x, into)), await gpu.readBytes(packHalves(gpu, y)));
    assertClose(await gpu.read(layer.applyInParts(gpu, x, 2 * IN * 130)), await gpu.read(y), 1e-6);
    const { used } = gpu.memory;
    const last = layer.applyLast(gpu, x);
    assertEquals(gpu.memory.used, used - x.bytes + last.bytes);
    assertEquals(await gpu.readBytes(last), expected);
  }
});

testVariants("several layers of one input give bit for bit what they give alone", async ({ gpu: given }) => {
  // So many that a tile of each large variant is partly filled.
  const [rows, outputs, inputs] = [2610, 264, 48];
  for (const int8 of given.matrixUnits ? [false, true] : [false]) {
    const gpu = new Gpu(given.device, { ...given.settings, int8 });
    gpu.poison = true;
    await gpu.waitingScope(async () => {
      const layers = [0, 1, 2].map((i) => {
        const plain = noise(gpu, [outputs, inputs], "bf16", 7 * i), bias = noise(gpu, [outputs], "f32", i);
        const { tensor, scale } = int8 ? PackedOperand.of(gpu, plain, { numbers: "i8" }) : { tensor: plain };
        return new Linear(tensor, bias, false, scale).shared(gpu, rows);
      });
      const x = layers[0]!.share(gpu, noise(gpu, [1, rows, inputs]));
      const wanted = layers.map((to, i) => ({ to, halves: i === 2 })), ran: string[] = [];
      const run = gpu.run;
      gpu.run = function (kernel, dispatch) {
        if (kernel.name.startsWith("gemm_")) ran.push(kernel.name);
        run.call(this, kernel, dispatch);
      };
      const made = Linear.applyAll(gpu, x, wanted);
      gpu.run = run;
      assertEquals(ran.length, gpu.matrixUnits && (!int8 || gpu.matrixUnits.int8) ? 1 : 3, ran.join());
      for (const [i, { to, halves }] of wanted.entries()) {
        const alone = halves ? to.applyHalves(gpu, x) : to.apply(gpu, x);
        assertEquals(made[i]!.format, alone.format);
        assertEquals(await gpu.readBytes(made[i]!), await gpu.readBytes(alone), `layer ${i}`);
      }
      // Those that need f32 are not joined with others.
      const [first, ...others] = wanted, exact = new Linear(layers[0]!.weight, layers[0]!.bias, true, layers[0]!.scale);
      for (const mixed of [[{ ...first!, to: exact }, ...others], [...others, { ...first!, to: exact }]]) {
        const made = Linear.applyAll(gpu, x, mixed), at = mixed.findIndex(({ to }) => to === exact);
        assertEquals(await gpu.readBytes(made[at]!), await gpu.readBytes(exact.apply(gpu, x)));
      }
    });
  }
});
