import {
  readSchedulerConfig,
  type ScheduledClip,
  type SchedulerConfig,
  type SupportedSettings,
} from "../../model/schedulers/config.ts";
import { WAN_SCHEDULER } from "../../model/parity/schedulers.ts";
import { PRESETS } from "../../model/schedulers/presets.ts";
import { createScheduler, type SchedulerOptions, type TensorOps } from "../../model/schedulers/scheduler.ts";
import { scheduleNotes } from "../../model/wan/schedule_notes.ts";
import type { Sigmas } from "../../model/schedulers/sigmas.ts";
import { openSafetensors, readFloat32, toNumbers } from "../../model/checkpoint/safetensors.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";

const FIXTURES = new URL("../fixtures/", import.meta.url).pathname;

/** Arrays, with a record of those that were made or handed over and not yet released. */
class ArrayOps implements TensorOps<Float32Array> {
  constructor(
    private readonly draw = (): Float32Array => {
      throw new Error("no noise is drawn");
    },
  ) {}

  readonly live = new Set<Float32Array>();

  own(tensor: Float32Array): Float32Array {
    this.live.add(tensor);
    return tensor;
  }

  noise(): Float32Array {
    return this.own(this.draw());
  }

  combine(terms: readonly (readonly [number, Float32Array])[]): Float32Array {
    assert(terms.length >= 1 && terms.length <= 4, `${terms.length} terms`);
    for (const [coefficient, tensor] of terms) {
      assert(Number.isFinite(coefficient), `coefficient ${coefficient}`);
      assert(this.live.has(tensor), "a released tensor is used");
    }
    assertEquals(new Set(terms.map(([, tensor]) => tensor)).size, terms.length);
    const sum = new Float32Array(terms[0]![1].length);
    for (let i = 0; i < sum.length; i++) {
      sum[i] = terms.reduce((total, [coefficient, tensor]) => total + coefficient * tensor[i]!, 0);
    }
    return this.own(sum);
  }

  release(tensor: Float32Array): void {
    assert(this.live.delete(tensor), "a tensor is released twice");
  }
}

function relativeError(actual: Float32Array, expected: Float32Array): number {
  assertEquals(actual.length, expected.length);
  let difference = 0, norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2;
    norm += expected[i]! ** 2;
  }
  return Math.sqrt(difference / norm);
}

for (const shift of [3, 5]) {
  for (const steps of [8, 20, 50]) {
    for (const kind of ["unipc", "euler"] as const) {
      Deno.test(`${kind}, shift ${shift}, ${steps} steps: as diffusers`, async () => {
        using fixture = await openSafetensors(`${FIXTURES}scheduler_shift${shift}_steps${steps}.safetensors`);
        const scheduler = createScheduler(WAN_SCHEDULER, { kind, steps, flowShift: shift });
        assertEquals(scheduler.kind, kind);

        const stored = await fixture.read(`${kind}.timesteps`);
        const timesteps = kind === "unipc"
          ? toNumbers(stored, "I64")
          : [...await readFloat32(fixture, "euler.timesteps")];
        assertEquals([...scheduler.timesteps], timesteps);
        const sigmaError = relativeError(scheduler.sigmas, await readFloat32(fixture, `${kind}.sigmas`));
        assert(sigmaError <= 1e-5, `sigmas: ${sigmaError}`);

        const samples = await readFloat32(fixture, `${kind}.samples`);
        const velocities = await readFloat32(fixture, `${kind}.velocities`);
        const size = samples.length / (steps + 1);
        const ops = new ArrayOps();
        const stepper = scheduler.start(ops);
        const mine = new Float32Array(samples.length);
        let sample = ops.own(samples.slice(0, size));
        mine.set(sample);
        for (let i = 0; i < steps; i++) {
          sample = stepper.step(ops.own(velocities.slice(i * size, (i + 1) * size)), sample);
          mine.set(sample, (i + 1) * size);
        }
        const error = relativeError(mine, samples);
        assert(error <= 1e-5, `samples: ${error}`);
        assertEquals([...ops.live], [sample]);
        assertThrows(() => stepper.step(sample, sample), RangeError, "steps have been taken");
      });
    }
  }
}

// What NumPy gives for the definitions: Wan's fm_solvers_unipc.py; scheduling_unipc_multistep.py of diffusers 0.33 gives
// the same timesteps.
const WAN_50_STEPS = [
  [999, 995, 991, 987, 982, 978, 973, 968, 963, 957, 952, 946, 940, 934, 927, 920, 913, 906, 898, 890, 882, 873, 863],
  [854, 843, 833, 821, 809, 796, 783, 768, 753, 737, 720, 701, 681, 660, 636, 611, 584, 555, 522, 487, 448, 405, 356],
  [302, 241, 172, 92],
].flat();

Deno.test("sigmas wan: as Wan's own program", () => {
  const create = (options: SchedulerOptions) => createScheduler(WAN_SCHEDULER, { sigmas: "wan", ...options });
  assertEquals([...create({ steps: 50, flowShift: 5 }).timesteps], WAN_50_STEPS);
  assertEquals(
    [...create({ steps: 8, flowShift: 5 }).sigmas],
    [
      ...[0.9997998476028442, 0.9720060229301453, 0.9372654557228088, 0.8926018476486206, 0.8330553770065308],
      ...[0.7496998310089111, 0.6246873736381531, 0.4163888096809387, 0],
    ],
  );
  const euler = create({ steps: 5, flowShift: 3.3, kind: "euler" });
  assertEquals(
    [...euler.timesteps],
    [999.69677734375, 929.2498779296875, 831.5830078125, 687.1417236328125, 451.7450256347656],
  );
});

Deno.test("sigmas hunyuan: as diffusers' HunyuanVideoPipeline gives them to its scheduler", async () => {
  using fixture = await openSafetensors(`${FIXTURES}scheduler_hunyuan.safetensors`);
  const config = { ...WAN_SCHEDULER, kind: "euler", sigmas: "hunyuan" } as const;
  for (const [flowShift, steps] of [[7, 50], [5, 50], [17, 6]] as const) {
    const { timesteps, sigmas } = createScheduler(config, { steps, flowShift });
    assertEquals(timesteps, await readFloat32(fixture, `shift${flowShift}_steps${steps}.timesteps`));
    assertEquals(sigmas, await readFloat32(fixture, `shift${flowShift}_steps${steps}.sigmas`));
  }
});

Deno.test("sigmas wan, by the definition, at any number of steps and shift", () => {
  const largest = Math.fround(1 - 1 / 1000);
  for (const flowShift of [1, 2.5, 3, 5, 8, 12]) {
    for (let steps = 1; steps <= 100; steps++) {
      const { timesteps, sigmas } = createScheduler(WAN_SCHEDULER, { sigmas: "wan", steps, flowShift });
      for (let i = 0; i < steps; i++) {
        const sigma = largest + i * (-largest / steps), shifted = flowShift * sigma / (1 + (flowShift - 1) * sigma);
        assertEquals(sigmas[i], Math.fround(shifted));
        assertEquals(timesteps[i], Math.trunc(shifted * 1000));
      }
      assertEquals(sigmas.length, steps + 1);
    }
  }
});

Deno.test("a list of sigmas is shifted, as diffusers' set_timesteps(sigmas=…) does; a shift of 1 takes it as it is", () => {
  const create = (kind: "unipc" | "euler", flowShift: number) =>
    createScheduler(WAN_SCHEDULER, { sigmas: [1, 0.9375, 0.8333, 0.625], steps: 4, kind, flowShift });
  assertEquals([...create("unipc", 1).sigmas], [0.9999989867210388, 0.9375, 0.833299994468689, 0.625, 0]);
  assertEquals([...create("unipc", 1).timesteps], [999, 937, 833, 625]);
  assertEquals(
    [...create("unipc", 3.3).sigmas],
    [0.9999989867210388, 0.9801980257034302, 0.9428442120552063, 0.8461538553237915, 0],
  );
  assertEquals([...create("unipc", 5).timesteps], [999, 986, 961, 892]);
  assertEquals(
    [...create("euler", 3.3).sigmas],
    [1, 0.9801980257034302, 0.9428441524505615, 0.8461538553237915, 0],
  );
  assertEquals([...create("euler", 3).timesteps], [1000, 978.2608642578125, 937.4859008789062, 833.3333129882812]);
});

for (const kind of ["unipc", "euler"] as const) {
  Deno.test(`${kind} is exact for a constant prediction of x₀ with Wan's sigmas and with a list`, () => {
    for (const sigmas of ["wan", [1, 0.75, 0.5, 0.25]] as const) {
      const ops = new ArrayOps(), scheduler = createScheduler(WAN_SCHEDULER, { kind, steps: 4, sigmas });
      const stepper = scheduler.start(ops), x0 = 0.25, noise = -1.5;
      let sample = ops.own(Float32Array.of((1 - scheduler.sigmas[0]!) * x0 + scheduler.sigmas[0]! * noise));
      for (let i = 0; i < 4; i++) sample = stepper.step(ops.own(Float32Array.of(noise - x0)), sample);
      assertAlmostEquals(sample[0]!, x0, 1e-5);
    }
  });
}

Deno.test("sigmas that are none are refused in one sentence", () => {
  const refuses = (sigmas: Sigmas, message: string, steps = 2) =>
    assertThrows(() => createScheduler(WAN_SCHEDULER, { steps, sigmas }), TilereelError, message);
  refuses("karras" as "wan", 'must be "diffusers", "wan", "hunyuan" or a list of numbers, not "karras"');
  refuses([], "but there is none");
  refuses(
    [0.5, 0.75],
    "must be falling numbers, each at most 1 and above 0, as in 1,0.75,0.5,0.25, but number 2 is 0.75",
  );
  refuses([1, 1], "number 2 is 1");
  refuses([1.5, 1], "number 1 is 1.5");
  refuses([1, NaN], "number 2 is NaN");
  refuses([1, 0], "the last one is 0, which is added behind the last step");
  refuses(7 as unknown as Sigmas, "but there is none");
  refuses([1, 0.75, 0.5], "3 sigmas make 3 steps, but 2 steps were requested: leave out one of the two");
  refuses([0.5, 0.49999999], "sigmas 1 and 2 are too close to each other at a flow shift of 3");
  assertThrows(
    () => createScheduler(WAN_SCHEDULER, { steps: 20, flowShift: 1e9 }),
    TilereelError,
    "take fewer steps, or a lower flow shift",
  );
});

Deno.test("notes: a flow shift meant for smaller clips, and an index that names another scheduler", async () => {
  const notes = (about: Partial<SchedulerConfig>, clip: Partial<ScheduledClip>) =>
    scheduleNotes({ ...WAN_SCHEDULER, ...about }, { width: 832, height: 480, ...clip });
  assertEquals(notes({}, {}), []);
  assertEquals(notes({}, { width: 1280, height: 720 }), [
    "the flow shift of 3 that the model's folder has is meant for 480p; at 1280x720 Wan's own program uses 5",
  ]);
  assertEquals(notes({}, { width: 720, height: 1280 }).length, 1);
  assertEquals(notes({}, { width: 1280, height: 720, flowShift: 3 }), []);
  assertEquals(notes({ flowShift: 5 }, { width: 1280, height: 720 }), []);

  const euler = "FlowMatchEulerDiscreteScheduler";
  const wan14B = await readConfig({ ...WAN_SCHEDULER_JSON, flow_shift: 3 }, euler);
  assertEquals(wan14B, { ...WAN_SCHEDULER, otherClass: euler });
  assertEquals(await readConfig(WAN_SCHEDULER_JSON, "UniPCMultistepScheduler"), { ...WAN_SCHEDULER, flowShift: 5 });
  assertEquals(notes(wan14B, {}), [
    `model_index.json names ${euler}, but scheduler_config.json is that of UniPC, which is used, as in Wan's own program`,
  ]);
  assertEquals(notes(wan14B, { scheduler: "euler" }), []);
});

/** Runs dx/dσ = v with v = x·slope from 2 at σ = 1. */
function integrate(config: SchedulerConfig, steps: number, slope: number): number {
  const ops = new ArrayOps();
  const stepper = createScheduler(config, { steps }).start(ops);
  let sample = ops.own(Float32Array.of(2));
  for (let i = 0; i < steps; i++) sample = stepper.step(ops.own(sample.map((x) => x * slope)), sample);
  assertEquals([...ops.live], [sample]);
  return sample[0]!;
}

for (const steps of [1, 2, 3]) {
  for (const kind of ["unipc", "euler"] as const) {
    Deno.test(`${kind} with ${steps} steps is exact for a constant prediction of x₀`, () => {
      const ops = new ArrayOps();
      const scheduler = createScheduler(WAN_SCHEDULER, { kind, steps });
      const stepper = scheduler.start(ops);
      const x0 = 0.25, noise = -1.5;
      let sample = ops.own(Float32Array.of((1 - scheduler.sigmas[0]!) * x0 + scheduler.sigmas[0]! * noise));
      for (let i = 0; i < steps; i++) sample = stepper.step(ops.own(Float32Array.of(noise - x0)), sample);
      assertAlmostEquals(sample[0]!, x0, 1e-5);
    });
  }
}

Deno.test("UniPC converges to the solution, with every setting", () => {
  const exact = 2 * Math.exp(-0.8);
  assertAlmostEquals(integrate(WAN_SCHEDULER, 40, 0.8), exact, 2e-3);
  for (
    const change of [
      { solverType: "bh1" },
      { solverOrder: 1 },
      { disableCorrector: [0, 1, 2] },
    ] as const
  ) {
    const result = integrate({ ...WAN_SCHEDULER, ...change }, 40, 0.8);
    assertAlmostEquals(result, exact, 2e-2, JSON.stringify(change));
    assert(result !== integrate(WAN_SCHEDULER, 40, 0.8), `${JSON.stringify(change)} changes nothing`);
  }
});

Deno.test("steps and flow shift are checked", () => {
  for (const steps of [0, -1, 1.5, NaN, 1001]) {
    assertThrows(() => createScheduler(WAN_SCHEDULER, { steps }), TilereelError, "a whole number from 1 to 1000");
  }
  for (const flowShift of [0, -3, NaN, Infinity]) {
    assertThrows(() => createScheduler(WAN_SCHEDULER, { steps: 4, flowShift }), TilereelError, "a number above 0");
  }
});

async function readConfig(value: unknown, indexClass?: string, own?: SupportedSettings): Promise<SchedulerConfig> {
  const path = await Deno.makeTempFile({ suffix: ".json" });
  try {
    await Deno.writeTextFile(path, JSON.stringify(value));
    return await readSchedulerConfig(path, "diffusers", indexClass, own);
  } finally {
    await Deno.remove(path);
  }
}

const WAN_SCHEDULER_JSON = {
  _class_name: "UniPCMultistepScheduler",
  prediction_type: "flow_prediction",
  use_flow_sigmas: true,
  flow_shift: 5.0,
};

Deno.test("scheduler_config.json: the demo's and both classes", async () => {
  const demo = await readSchedulerConfig(
    new URL("../../model/demo/scheduler/scheduler_config.json", import.meta.url).pathname,
    "diffusers",
  );
  assertEquals(demo, WAN_SCHEDULER);
  assertEquals(await readConfig(WAN_SCHEDULER_JSON), { ...WAN_SCHEDULER, flowShift: 5 });
  assertEquals(
    await readConfig({ _class_name: "FlowMatchEulerDiscreteScheduler", shift: 8 }),
    { ...WAN_SCHEDULER, kind: "euler", flowShift: 8 },
  );
});

Deno.test("scheduler_config.json: what is not supported is named", async () => {
  const changes: [Record<string, unknown>, string][] = [
    [{ _class_name: "DDIMScheduler" }, '_class_name "DDIMScheduler" is not supported'],
    [{ _class_name: undefined }, "_class_name is absent, which is not supported"],
    [{ prediction_type: "epsilon" }, 'prediction_type "epsilon" is not supported; "flow_prediction" was expected'],
    [{ prediction_type: undefined }, "prediction_type is absent"],
    [{ use_flow_sigmas: undefined }, "use_flow_sigmas is absent"],
    [{ solver_order: 3 }, "solver_order 3 is not supported; 1 or 2 was expected"],
    [{ solver_type: "heun" }, 'solver_type "heun"'],
    [{ predict_x0: false }, "predict_x0 false"],
    [{ thresholding: true }, "thresholding true"],
    [{ final_sigmas_type: "sigma_min" }, 'final_sigmas_type "sigma_min"'],
    [{ use_karras_sigmas: true }, "use_karras_sigmas true"],
    [{ use_exponential_sigmas: true }, "use_exponential_sigmas true"],
    [{ use_beta_sigmas: true }, "use_beta_sigmas true"],
    [{ use_dynamic_shifting: true }, "use_dynamic_shifting true"],
    [{ shift_terminal: 0.1 }, "shift_terminal 0.1"],
    [{ flow_shift: "3" }, 'flow_shift is "3", but a number above 0 was expected'],
    [{ flow_shift: 0 }, "flow_shift is 0"],
    [{ disable_corrector: [-1] }, "disable_corrector is [-1]"],
  ];
  for (const [change, message] of changes) {
    await assertRejects(() => readConfig({ ...WAN_SCHEDULER_JSON, ...change }), TilereelError, message);
  }
  const euler = { _class_name: "FlowMatchEulerDiscreteScheduler" };
  for (const key of ["use_dynamic_shifting", "use_karras_sigmas", "invert_sigmas", "stochastic_sampling"]) {
    await assertRejects(() => readConfig({ ...euler, [key]: true }), TilereelError, `${key} true is not supported`);
  }
  // A family may support what others do not.
  const inverted = { ...euler, invert_sigmas: true }, own = { invert_sigmas: [true] };
  assertEquals((await readConfig(inverted, undefined, own)).kind, "euler");
  await assertRejects(() => readConfig(euler, undefined, own), TilereelError, "invert_sigmas is absent");
});

Deno.test("presets visit the timesteps of their authors", () => {
  const timesteps = (preset: keyof typeof PRESETS) => {
    const { sigmas, scheduler: kind, flowShift } = PRESETS[preset];
    return [...createScheduler(WAN_SCHEDULER, { steps: sigmas.length, sigmas, kind, flowShift }).timesteps];
  };
  for (const preset of ["lightx2v", "lightx2v-wan2.2"] as const) {
    for (const [i, t] of [1000, 937.5, 833.3333, 625].entries()) assertAlmostEquals(timesteps(preset)[i]!, t, 1e-3);
  }
  assertEquals(timesteps("fastwan"), [1000, 757, 522]);
  // As tools/demo/distill.py has them.
  for (const [i, t] of [1000, 900, 750, 500].entries()) assertAlmostEquals(timesteps("demo")[i]!, t, 1e-3);
  // As diffusers' FlowMatchEulerDiscreteScheduler has them at shift 17.
  for (const [i, s] of [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6].entries()) {
    assertAlmostEquals(timesteps("fasthunyuan")[i]!, 1000 * 17 * s / (1 + 16 * s), 1e-3);
  }
});

Deno.test("lcm: each step adds fresh noise to its estimate of the clean sample, and the last step none", () => {
  const drawn = [0.5, -2, 1.25], ops = new ArrayOps(() => Float32Array.of(drawn[draws++]!));
  let draws = 0;
  const scheduler = createScheduler(WAN_SCHEDULER, {
    kind: "lcm",
    steps: 4,
    sigmas: [1, 0.75, 0.5, 0.25],
    flowShift: 5,
  });
  const stepper = scheduler.start(ops), x0 = 0.25;
  let sample = ops.own(Float32Array.of(-1.5));
  for (let i = 0; i < 4; i++) {
    const velocity = ops.own(Float32Array.of((sample[0]! - x0) / scheduler.sigmas[i]!)),
      next = scheduler.sigmas[i + 1]!;
    sample = stepper.step(velocity, sample);
    assertAlmostEquals(sample[0]!, (1 - next) * x0 + next * (drawn[i] ?? 0), 1e-6);
  }
  assertEquals([draws, [...ops.live]], [3, [sample]]);
});
