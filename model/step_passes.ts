import { TilereelError } from "../gpu/common/errors.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { combine } from "../gpu/ops/combine.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { TensorOwner } from "../gpu/tensor_owner.ts";
import { distilledAttention } from "./vsa/methods.ts";
import { fullAttention } from "./attention/full.ts";
import { product } from "./attention/grid.ts";
import type { TokenLayout } from "./attention/layout.ts";
import type { AttentionMethod, PreparedAttention, SelfAttention } from "./attention/method.ts";
import type { AttentionReport } from "./attention/report.ts";
import { CountedCache, totalSpared } from "./cache/counted_cache.ts";
import type { CacheReport, CacheStart, KeptByCache, SparedWork } from "./cache/step_cache.ts";
import type { HostTensor } from "./conditioning.ts";
import type { Conditioning, FamilyModel, ForwardPass, VideoTransformer } from "./family.ts";
import type { PassName } from "./guidance.ts";
import { PassConstants } from "./pass_constants.ts";
import type { GenerateOptions } from "./pipeline.ts";

/** Up to so many steps, all count what is clamped: kernels that do not count would have to be compiled, too. */
const FEW_STEPS = 4;

/** So many tensors are joined at once: the velocities of passes, and those of steps by a scheduler. */
const JOINED = [2, 3, 4];

/** The methods of attention for whose first clip a transformer's kernels were compiled. */
const COMPILED = new WeakMap<VideoTransformer, WeakSet<AttentionMethod>>();

/** The passes of a clip's steps, and what computes them. */
export interface StepPassesTask {
  readonly gpu: Gpu;
  readonly model: Pick<FamilyModel, "family" | "shape" | "distilled">;
  readonly transformer: VideoTransformer;
  /** The names of a step's passes. */
  readonly names: readonly PassName[];
  /** The tokens of the first pass. */
  readonly layout: TokenLayout;
  /** The number of valid kept tokens of each pass. */
  readonly lengths: readonly number[];
  /** Of all steps. */
  readonly timesteps: readonly number[];
  /** The share of noise before each step, and 0 after the last. */
  readonly sigmas: readonly number[];
  /** What {@link StepPasses.kept} was, if the clip goes on from there. */
  readonly from?: PassesStart | undefined;
}

/** What the passes of a clip keep from one step to the next. */
export interface PassesKept {
  /** Which self-attention was run: 1 where it was, [steps, passes, layers]. */
  readonly ran: HostTensor;
  /** Absent without a step cache. */
  readonly cache?: KeptByCache;
}

/** So too in this machine's memory. */
export interface PassesStart {
  readonly ran: HostTensor;
  readonly cache: CacheStart;
}

/** One of a step's passes that is to be computed. */
export interface StepPass {
  /** An index into {@link StepPassesTask.names}. */
  readonly pass: number;
  readonly conditioning: Conditioning;
}

/** What one pass of one step did. */
export interface WorkOfPass {
  /** The layers whose self-attention was run. */
  readonly layers: readonly number[];
  /** What the step cache has spared in all steps of the pass until now. */
  readonly spared?: SparedWork | undefined;
}

/** What the passes of a clip did. */
export interface PassesReport {
  readonly attention: AttentionReport;
  /** Absent without a step cache. */
  readonly cache?: CacheReport;
}

/** The forward passes of a clip's steps, each with its attention and, where there is one, its step cache. */
export class StepPasses implements Disposable {
  /** The layers whose self-attention was run, by step and pass. */
  readonly #ran = new Map<string, Set<number>>();
  /** What each pass keeps from step to step. */
  readonly #constants: readonly PassConstants[];
  /** What step caches have spared elsewhere, of passes that were computed there. */
  readonly #sparedElsewhere = new Map<PassName, SparedWork>();

  private constructor(
    private readonly task: StepPassesTask,
    private readonly method: AttentionMethod,
    private readonly attention: PreparedAttention,
    private readonly cache: CountedCache | undefined,
    private readonly held: DisposableStack,
  ) {
    for (const [i, was] of task.from?.ran.data.entries() ?? []) {
      const [, passes, layers] = ranShape(task), row = Math.floor(i / layers);
      if (was) this.#ranIn(Math.floor(row / passes), row % passes).add(i % layers);
    }
    this.#constants = task.names.map(() => held.use(new PassConstants(task.gpu)));
  }

  /** @throws {TilereelError} if attention or cache do not fit the model, or memory runs out */
  static async prepare(
    task: StepPassesTask,
    options: Pick<GenerateOptions, "attention" | "cache" | "sigmas" | "onNote">,
  ): Promise<StepPasses> {
    const { gpu, model, transformer, layout, lengths, timesteps, sigmas, names, from } = task;
    if (from && from.ran.shape.join() !== ranShape(task).join()) {
      throw new TilereelError(
        `the state to go on from is of another clip: it has [${from.ran.shape.join(", ")}] steps, passes and layers, ` +
          `but [${ranShape(task).join(", ")}] were expected; begin the clip anew`,
      );
    }
    using preparing = new DisposableStack();
    const method = options.attention ?? distilledAttention(model.distilled) ?? fullAttention;
    const attention = preparing.use(
      await method.prepare({
        gpu,
        shape: transformer.shape,
        family: model.family,
        ...{ layout, lengths, timesteps },
        timeEmbedding: (timesteps) => transformer.timeEmbedding(timesteps),
        sigmas: options.sigmas,
        onNote: options.onNote,
      }),
    );
    const gridTokens = product(layout.grid);
    const cache = await options.cache?.prepare({
      ...{ gpu, model, passes: names, timesteps, sigmas, gridTokens, from: from?.cache },
    });
    if (cache) preparing.use(cache);
    const counted = cache && new CountedCache(cache, transformer.shape, from?.cache);
    return new StepPasses(task, method, attention, counted, preparing.move());
  }

  /**
   * Compiles the kernels of the first two steps and the last, several at once, where this is the first clip of a
   * transformer with this method of attention: on a GPU that was not used before, they would take seconds one after the
   * other. It is of no use where blocks are streamed, or a model has two transformers: these cannot be recorded in one go.
   *
   * @param first the first step that is run
   */
  async compileAhead(latents: Tensor, conditioning: Conditioning, first: number): Promise<void> {
    const { gpu, transformer, timesteps } = this.task, method = this.method;
    const known = COMPILED.get(transformer) ?? new WeakSet();
    if (!gpu.compilesAhead || !this.attention.unobserved || known.has(method)) return;
    COMPILED.set(transformer, known.add(method));
    const last = timesteps.length - 1, steps = new Set([first, Math.min(first + 1, last), last]);
    const joins = JOINED.map((terms) => () => combine(gpu, Array(terms).fill([1, latents])));
    const passes = [...steps].map((step) => () => {
      gpu.countsClamps = this.#countsClamps(step);
      const selfAttention = this.attention.at(step, 0);
      const pass = transformer.embed({ latents, timesteps: [timesteps[step]!], conditioning, selfAttention });
      let x: Tensor | undefined = pass.x;
      // No more is held than when the step is run.
      const release = () => {
        if (x) gpu.release(x);
        x = undefined;
      };
      for (let layer = 0; layer < transformer.shape.layers; layer++) {
        const next = transformer.runBlock(layer, x!, pass, release);
        release();
        x = next;
      }
      transformer.project(x!, pass);
    });
    await gpu.compileAhead([...passes, ...joins]);
  }

  /** Counting slows every step a little; the first and the last have the most and the least noise. */
  #countsClamps(step: number): boolean {
    const { length: total } = this.task.timesteps;
    return total <= FEW_STEPS || step === 0 || step === total - 1;
  }

  /**
   * Predicts the velocities of some of a step's passes, or takes them from the cache. Steps come in order.
   *
   * @returns for each pass a tensor of the caller's
   */
  async predict(step: number, latents: Tensor, passes: readonly StepPass[]): Promise<Tensor[]> {
    const { gpu, transformer, names, timesteps: { [step]: timestep } } = this.task;
    gpu.countsClamps = this.#countsClamps(step);
    // What attention uploads is freed after the step.
    using owned = new TensorOwner(gpu);
    const hooks = passes.map(({ pass }) => this.cache?.at(step, names[pass]!));
    const velocities: (Tensor | undefined)[] = [];
    for (const hook of hooks) {
      const velocity = await hook?.velocity?.(latents);
      velocities.push(velocity && owned.adopt(velocity));
    }
    const left = [...passes.keys()].filter((i) => velocities[i] === undefined);
    const { result: inputs, tensors } = gpu.collect(() =>
      left.map((i): ForwardPass => {
        const { pass, conditioning } = passes[i]!, attend = this.attention.at(step, pass);
        const ran = this.#ranIn(step, pass);
        const recorded: SelfAttention = (q, k, v, layer, gate) => {
          ran.add(layer);
          return attend(q, k, v, layer, gate);
        };
        const consuming: SelfAttention["consuming"] = attend.consuming && ((q, k, v, layer, next) => {
          ran.add(layer);
          return attend.consuming!(q, k, v, layer, next);
        });
        const selfAttention = Object.assign(recorded, { consuming, takesGate: attend.takesGate ?? false });
        const own = { name: names[pass], cache: hooks[i], constants: this.#constants[pass] };
        return { latents, timesteps: [timestep!], conditioning, selfAttention, ...own };
      })
    );
    owned.adopt(tensors);
    const predictions = owned.adopt(await transformer.predict(inputs));
    for (const [at, i] of left.entries()) {
      const velocity = velocities[i] = predictions[at]!;
      gpu.scope(() => hooks[i]?.predicted?.(latents, velocity));
    }
    return velocities.map((velocity) => owned.disown(velocity!));
  }

  /** What a pass of a step did that was computed elsewhere: it belongs to the report. */
  note(step: number, pass: number, { layers, spared }: WorkOfPass): void {
    for (const layer of layers) this.#ranIn(step, pass).add(layer);
    if (spared) this.#sparedElsewhere.set(this.task.names[pass]!, spared);
  }

  /** What a pass of a step did: what {@link note} is to be told where its result is used. */
  work(step: number, pass: number): WorkOfPass {
    const spared = this.cache?.report.get(this.task.names[pass]!);
    return { layers: [...this.#ranIn(step, pass)], spared: spared && { ...spared } };
  }

  /** What was computed until now. */
  get report(): PassesReport {
    const attention = this.attention.report((step, pass, layer) => this.#ranIn(step, pass).has(layer));
    if (!this.cache) return { attention };
    const cache = new Map(this.cache.report);
    for (const [name, spared] of this.#sparedElsewhere) {
      const here = cache.get(name);
      cache.set(name, here ? totalSpared([here, spared]) : spared);
    }
    return { attention, cache };
  }

  /** What is kept for the next step, whose tensors stay their owners'; undefined where a cache keeps too much. */
  get kept(): PassesKept | undefined {
    const cache = this.cache?.kept(), shape = ranShape(this.task), [steps, passes, layers] = shape;
    if (this.cache && !cache) return undefined;
    const data = new Float32Array(steps * passes * layers);
    for (let step = 0; step < steps; step++) {
      for (let pass = 0; pass < passes; pass++) {
        for (const layer of this.#ranIn(step, pass)) data[(step * passes + pass) * layers + layer] = 1;
      }
    }
    return { ran: { data, shape }, ...cache && { cache } };
  }

  #ranIn(step: number, pass: number): Set<number> {
    const key = `${step} ${pass}`, known = this.#ran.get(key) ?? new Set();
    this.#ran.set(key, known);
    return known;
  }

  [Symbol.dispose](): void {
    this.held.dispose();
  }
}

/** The shape of {@link PassesKept.ran}. */
function ranShape({ timesteps, names, transformer }: StepPassesTask): [steps: number, passes: number, layers: number] {
  return [timesteps.length, names.length, transformer.shape.layers];
}
