/**
 * `deno task bench:arithmetic`: what an adapter's own multiply-adds make when nothing else is done: outer products of
 * 8×8 numbers out of workgroup memory, over and over, as matrix products by threads make them. That is their ceiling,
 * without what it takes to bring operands there.
 *
 * @module
 */
import { gpuOptions } from "../tools/program/gpu_options.ts";
import type { OptionValues } from "../tools/program/options.ts";
import { openGpu } from "../gpu/native/open.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { type KernelSource, unroll, write } from "../gpu/kernel.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { openStopwatch } from "../gpu/tuning/stopwatch.ts";
import { ofCeiling } from "./ceilings.ts";
import { handOver, resultOptions } from "./result.ts";
import { runAsProgram } from "../tools/program/run_as_program.ts";
import { markdownTable } from "./table.ts";

const { gpu: which } = gpuOptions("Bench");
const options = { gpu: which, ...resultOptions };

/** How products are added up. */
interface Form {
  readonly name: string;
  readonly f16: boolean;
  /** So many are added up in f16 before they go to a sum in f32. Without it sums stay in the operands' format. */
  readonly stretch?: number;
}

const FORMS: readonly Form[] = [
  { name: "f32", f16: false },
  { name: "f16", f16: true },
  { name: "f16, sums of 32 widened", f16: true, stretch: 32 },
  { name: "f16, sums of 16 widened", f16: true, stretch: 16 },
  { name: "f16, sums of 8 widened", f16: true, stretch: 8 },
];

const THREADS = 128, STEPS = 32;
/** Workgroups, and rounds of {@link STEPS}: of a large GPU, and of a software adapter. */
const WORK = { hardware: { groups: 4096, rounds: 128 }, software: { groups: 16, rounds: 2 } } as const;
/** An idle GPU runs at a low clock: so long, in milliseconds, it works before anything is timed. */
const WARM_UP = 1000;
const SAMPLES = 9;
/** Operations of a thread in a round. */
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

if (import.meta.main) await runAsProgram({ command: "deno task bench:arithmetic", options, run: bench });

async function bench(values: OptionValues<typeof options>): Promise<void> {
  const { gpu: choice = "auto" } = values;
  const gpu = await openGpu({ choice });
  const { name: adapter, source, software, features } = gpu.settings.description;
  const { groups, rounds } = WORK[software ? "software" : "hardware"];
  const y = gpu.tensor([groups * THREADS]);
  const forms = FORMS.filter(({ f16 }) => !f16 || features.includes("shader-f16"));
  const works = forms.map((form) => () => run(gpu, form, y, groups, rounds));
  const times = await sample(gpu, works);
  gpu.close();
  const results = forms.map(({ name: form }, i) => {
    const sorted = times.map((round) => round[i]!).sort((a, b) => a - b), ms = sorted[SAMPLES >> 1]!;
    const tflops = ROUND_FLOPS * rounds * THREADS * groups / ms / 1e9;
    return { form, ms, spread: (sorted.at(-1)! - sorted[0]!) / ms, tflops };
  });
  handOver(
    values,
    { adapter, source, results },
    `${adapter} (${source})\n\n${
      markdownTable([
        ["multiply-adds", "ms", "spread", "TFLOP/s", "of the ceiling"],
        ...results.map(({ form, ms, spread, tflops }) => [
          form,
          ms.toFixed(2),
          `${(100 * spread).toFixed(0)}%`,
          tflops.toFixed(tflops < 1 ? 3 : 1),
          ofCeiling(adapter, tflops, false),
        ]),
      ])
    }`,
  );
}

function run(gpu: Gpu, form: Form, y: Tensor, groups: number, rounds: number): void {
  gpu.run(kernel(form), { buffers: { y }, params: { rounds }, workgroups: [groups, 1, 1] });
}

/** Milliseconds of each work, in each of {@link SAMPLES} rounds. */
async function sample(gpu: Gpu, works: readonly (() => void)[]): Promise<number[][]> {
  using stopwatch = await openStopwatch(gpu);
  for (const end = performance.now() + WARM_UP; performance.now() < end;) await stopwatch.time(works);
  const rounds: number[][] = [];
  while (rounds.length < SAMPLES) rounds.push(await stopwatch.time(works));
  return rounds;
}
