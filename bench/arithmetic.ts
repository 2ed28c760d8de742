/**
 * `deno task bench:arithmetic`: the most multiply-adds that an adapter's threads do per second. The kernels compute outer
 * products of 8×8 numbers from workgroup memory again and again, as matrix products without matrix units do, but they
 * do not load operands.
 *
 * @module
 */
import type { OptionValues } from "../tools/program/options.ts";
import { runAsProgram } from "../tools/program/run_command.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { type KernelSource, unroll, write } from "../gpu/kernel.ts";
import { openStopwatch } from "../gpu/tuning/stopwatch.ts";
import { benchOptions, handOver, onGpu } from "./program.ts";
import { ofCeiling, percent, tableOf, tflopsText } from "./table.ts";

const { gpu, json, save } = benchOptions;
const options = { gpu, json, save };

/** A way to add up products. */
interface Form {
  readonly name: string;
  readonly f16: boolean;
  /** The number of products that are summed in f16 before the sum is added in f32. Default: all are summed as they are */
  readonly stretch?: number;
}

const FORMS: readonly Form[] = [
  { name: "f32", f16: false },
  { name: "f16", f16: true },
  ...[32, 16, 8].map((stretch) => ({ name: `f16, sums of ${stretch} widened`, f16: true, stretch })),
];

const THREADS = 128, STEPS = 32;
/** Workgroups, and rounds of {@link STEPS}, for GPUs and for software adapters. */
const WORK = { hardware: { groups: 4096, rounds: 128 }, software: { groups: 16, rounds: 2 } } as const;
/** Milliseconds of work before anything is timed, because an idle GPU runs at a low clock. */
const WARM_UP = 1000;
const SAMPLES = 9;
/** The operations of a thread in a round. */
const ROUND_FLOPS = 2 * 8 * 8 * STEPS;

function kernel({ f16, stretch }: Form): KernelSource {
  const vec = f16 ? "vec4h" : "vec4f", number = f16 ? "f16" : "f32";
  const each = (line: (row: number, j: number) => string) => unroll(8, (row) => unroll(2, (j) => line(row, j)));
  return {
    name: `arithmetic_${vec}_${stretch ?? 0}`,
    f16,
    buffers: { y: write("f32") },
    params: { rounds: "u32" },
    workgroupSize: [THREADS, 1, 1],
    declarations: `
var<workgroup> xs: array<array<${vec}, ${STEPS + 1}>, 32>;
var<workgroup> ws: array<array<${vec}, ${STEPS + 1}>, 16>;`,
    body: `  for (var i = li; i < ${32 * (STEPS + 1)}u; i += ${THREADS}u) {
    xs[i / ${STEPS + 1}u][i % ${STEPS + 1}u] = ${vec}(${number}(i % 7u)) - ${vec}(3.0, 2.5, 3.5, 2.0);
    if (i < ${16 * (STEPS + 1)}u) {
      ws[i / ${STEPS + 1}u][i % ${STEPS + 1}u] = ${vec}(${number}(i % 5u)) - ${vec}(2.0, 1.5, 2.5, 1.0);
    }
  }
  workgroupBarrier();
  let x_at = li / 32u * 4u + li % 32u / 8u;
  let w_at = li % 8u;
${each((row, j) => `  var h${row}_${j} = ${vec}(${number}(${row}.5)); var c${row}_${j} = vec4f(${j}.0);`)}
  for (var round = 0u; round < p.rounds; round++) {
    // The rows differ in each round; compilers would compute equal ones only once.
    let x_row = (x_at + round) % 16u;
    let w_row = (w_at + round) % 8u;
${
      unroll(STEPS, (k) =>
        `    {
${unroll(2, (i) => `      let a${i} = xs[x_row + ${16 * i}u][${k}];`)}
${unroll(2, (j) => `      let b${j} = ws[w_row + ${8 * j}u][${k}];`)}
${
          each((row, j) => {
            const a = `${vec}(a${row >> 2}.${"xyzw"[row & 3]})`, h = `h${row}_${j}`;
            const sum = stretch && k % stretch === 0 ? `${a} * b${j}` : `fma(${a}, b${j}, ${h})`;
            return `      ${h} = ${sum};${stretch && (k + 1) % stretch === 0 ? ` c${row}_${j} += vec4f(${h});` : ""}`;
          })
        }
    }`)
    }
  }
  var total = vec4f();
${each((row, j) => `  total += c${row}_${j} + vec4f(h${row}_${j});`)}
  y[wid.x * ${THREADS}u + li] = dot(total, vec4f(1.0));`,
  };
}

if (import.meta.main) await runAsProgram({ name: "deno task bench:arithmetic", options, run: bench });

async function bench(values: OptionValues<typeof options>): Promise<void> {
  await onGpu({ ...values, tuning: "off" }, async (gpu) => handOver(values, ...await measured(gpu)));
}

/** The data, and the text to print. */
async function measured(gpu: Gpu): Promise<[unknown, string]> {
  const { name: adapter, source, software, features } = gpu.settings.description;
  const { groups, rounds } = WORK[software ? "software" : "hardware"], y = gpu.tensor([groups * THREADS]);
  const forms = FORMS.filter(({ f16 }) => !f16 || features.includes("shader-f16"));
  const times = await sample(
    gpu,
    forms.map((form) => () =>
      gpu.run(kernel(form), { buffers: { y }, params: { rounds }, workgroups: [groups, 1, 1] })
    ),
  );
  const results = forms.map(({ name: form }, i) => {
    const sorted = times.map((round) => round[i]!).sort((a, b) => a - b), ms = sorted[SAMPLES >> 1]!;
    const tflops = ROUND_FLOPS * rounds * THREADS * groups / ms / 1e9;
    return { form, ms, spread: (sorted.at(-1)! - sorted[0]!) / ms, tflops };
  });
  const table = tableOf(results, {
    "multiply-adds": (r) => r.form,
    "ms": (r) => r.ms.toFixed(2),
    "spread": (r) => percent(r.spread, 0),
    "TFLOP/s": (r) => tflopsText(r.tflops),
    "of the ceiling": (r) => ofCeiling(adapter, r.tflops, false),
  });
  return [{ adapter, source, results }, `${adapter} (${source})\n\n${table}`];
}

/** The milliseconds of each work, in each of {@link SAMPLES} rounds. */
async function sample(gpu: Gpu, works: readonly (() => void)[]): Promise<number[][]> {
  using stopwatch = await openStopwatch(gpu);
  for (const end = performance.now() + WARM_UP; performance.now() < end;) await stopwatch.time(works);
  const rounds: number[][] = [];
  while (rounds.length < SAMPLES) rounds.push(await stopwatch.time(works));
  return rounds;
}
