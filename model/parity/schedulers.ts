import type { SchedulerConfig } from "../schedulers/config.ts";
import { createScheduler, type TensorOps } from "../schedulers/scheduler.ts";
import { SCALAR_BOUNDS } from "./bounds.ts";
import { relativeError } from "../../gpu/relative_error.ts";
import { type Check, type ParityCase, References } from "./case.ts";

const NAME = /^scheduler_shift(\d+(?:\.\d+)?)_steps(\d+)\.safetensors$/;

/** As Wan 2.1 ships it; the flow shift is in the file's name. */
export const WAN_SCHEDULER: SchedulerConfig = {
  kind: "unipc",
  numTrainTimesteps: 1000,
  flowShift: 3,
  sigmas: "diffusers",
  solverOrder: 2,
  solverType: "bh2",
  disableCorrector: [],
};

const ARRAYS: TensorOps<Float32Array> = {
  combine: (terms) => terms[0]![1].map((_, i) => terms.reduce((sum, [c, x]) => sum + c * x[i]!, 0)),
  noise: () => {
    throw new Error("these schedulers add no noise");
  },
  release: () => {},
};

/** `scheduler_shiftS_stepsN.safetensors`: schedules of both schedulers, and whole runs with given velocities. */
export const schedulers: ParityCase = {
  matches: NAME,
  async *run(path): AsyncIterable<Check> {
    const file = path.split("/").at(-1)!, [, shift, steps] = NAME.exec(file)!;
    using references = await References.open(path);
    for (const kind of ["unipc", "euler"] as const) {
      const scheduler = createScheduler(WAN_SCHEDULER, {
        steps: Number(steps),
        kind,
        flowShift: Number(shift),
      });
      const check = async (what: string, value: Float32Array, bound: number): Promise<Check> => ({
        name: `${file.replace(".safetensors", "")} ${kind} ${what}`,
        value: relativeError(value, await references.read(`${kind}.${what}`)),
        unit: "relative",
        bound,
      });
      yield await check("timesteps", scheduler.timesteps, SCALAR_BOUNDS.schedule);
      yield await check("sigmas", scheduler.sigmas, SCALAR_BOUNDS.schedule);
      const velocities = await references.read(`${kind}.velocities`),
        expected = await references.read(`${kind}.samples`);
      const size = expected.length / (Number(steps) + 1);
      const samples = expected.slice();
      const stepper = scheduler.start(ARRAYS);
      for (let i = 0, sample = expected.slice(0, size); i < Number(steps); i++) {
        sample = stepper.step(velocities.slice(i * size, (i + 1) * size), sample) as Float32Array<ArrayBuffer>;
        samples.set(sample, (i + 1) * size);
      }
      yield await check("samples", samples, SCALAR_BOUNDS.samples[kind]);
    }
  },
};

/** Timesteps and sigmas of HunyuanVideo, at several flow shifts and numbers of steps. */
export const hunyuanSchedules: ParityCase = {
  matches: /^scheduler_hunyuan/,
  async *run(path): AsyncIterable<Check> {
    using references = await References.open(path);
    const file = path.split("/").at(-1)!.replace(".safetensors", "");
    for (const name of references.source.names()) {
      const [, run, shift, steps, what] = /^(shift(.+)_steps(\d+))\.(timesteps|sigmas)$/.exec(name) ?? [];
      if (what === undefined) continue;
      const config: SchedulerConfig = { ...WAN_SCHEDULER, kind: "euler", sigmas: "hunyuan", flowShift: Number(shift) };
      const scheduler = createScheduler(config, { steps: Number(steps) });
      const value = relativeError(scheduler[what as "timesteps" | "sigmas"], await references.read(name));
      yield { name: `${file} ${run} ${what}`, value, unit: "relative", bound: SCALAR_BOUNDS.schedule };
    }
  },
};
