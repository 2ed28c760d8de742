import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { openModel } from "../../model/checkpoint/model_folder.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import type { FamilyModel } from "../../model/family.ts";
import { LastingPipeline, type OpenOptions } from "../../model/lasting_pipeline.ts";
import { loadedAs } from "../../model/model_variant.ts";
import type { ClipToCome } from "../../model/pipeline.ts";
import { GuidanceAssistant } from "../../model/split_guidance/assistant.ts";
import type { DistantPass } from "../../model/split_guidance/partner.ts";
import { type MethodValues, readyMethods } from "../../tools/program/clip/method_options.ts";
import { type GpuValues, openGpuAsAsked } from "../../tools/program/gpu_options.ts";
import { type ModelValues, openNamedFolder, variantOf, weightsLine } from "../../tools/program/model_options.ts";
import type { Output } from "../../tools/program/output.ts";
import { type Hello, helloOf, identityOf } from "./hello.ts";
import { checkSameMethods, type ClipRequest, methodValuesOf } from "./requests.ts";
import type { Helper } from "./session.ts";

/** What an assistant is started with. */
export interface HelperOptions {
  readonly values: ModelValues & GpuValues;
  /** The files that clips may use. No request names one. */
  readonly files: Pick<MethodValues, "router" | "tiles">;
  /** The largest clip. Weights are placed for it. */
  readonly largest: ClipToCome;
  readonly output: Pick<Output, "onProgress" | "say" | "note">;
}

/** A GPU with the transformer on it. */
interface Bench extends Disposable {
  readonly gpu: Gpu;
  readonly assistant: GuidanceAssistant;
}

/** Helps with the clips of one model. The GPU is opened again if it is lost. */
export class ModelHelper implements Helper, Disposable {
  readonly #bench: LastingPipeline<Bench>;

  private constructor(
    private readonly options: HelperOptions,
    readonly model: FamilyModel,
    private readonly identity: Pick<Hello, "family" | "model">,
  ) {
    this.#bench = new LastingPipeline((opening) => openBench(this.options, opening));
  }

  /** @throws {TilereelError} if the model cannot be loaded */
  static async open(options: HelperOptions): Promise<ModelHelper> {
    const folder = await openNamedFolder(options.values), identity = await identityOf(options.values);
    const helper = new ModelHelper(options, await folder.family.open(folder), identity);
    try {
      await helper.#open();
      return helper;
    } catch (error) {
      helper[Symbol.dispose]();
      throw error;
    }
  }

  /** What main processes are told first. */
  async hello(): Promise<Hello> {
    return await helloOf(this.identity, (await this.#open()).gpu);
  }

  async begin({ clip, methods: asked }: ClipRequest): Promise<DistantPass> {
    const { options: { values, files, output }, model } = this, { size, shape, timesteps: { length: steps } } = clip;
    const methods = await readyMethods(methodValuesOf(asked, files), values.model ?? embeddedModelDir());
    methods.check(model);
    checkSameMethods(asked, methods.record(model.layout(size).grid));
    const { assistant } = await this.#open();
    output.say(`A clip of ${size.width}x${size.height} and ${shape[2]} latent frames, ${steps} steps.`);
    return await assistant.begin(clip, { ...methods.options, onNote: output.note });
  }

  async failed(error: unknown): Promise<void> {
    const { output: { note } } = this.options;
    if (error instanceof TilereelError) note(`a clip was given up: ${error.message}`);
    else console.error(`tilereel: this is a bug: ${(error as Error)?.stack ?? error}`);
    await this.#bench.recover();
  }

  [Symbol.dispose](): void {
    this.#bench[Symbol.dispose]();
    this.model[Symbol.dispose]();
  }

  async #open(): Promise<Bench> {
    const { onProgress, note } = this.options.output;
    return await this.#bench.open({ onProgress, onNote: note });
  }
}

async function openBench({ values, largest, output }: HelperOptions, { onProgress }: OpenOptions): Promise<Bench> {
  using opening = new DisposableStack();
  const gpu = await openGpuAsAsked(values);
  opening.defer(() => gpu.close());
  const { parts, ...how } = loadedAs(await variantOf(values));
  const opened = await openModel(values.model ?? embeddedModelDir(), parts);
  const { weightDtype, adjust } = how, { weights } = values;
  const assistant = opening.use(
    await GuidanceAssistant.of(opened, { gpu, clips: [largest], weights, weightDtype, adjust, onProgress }),
  );
  const streamed = weightsLine(assistant.weights);
  if (streamed !== undefined) output.say(streamed);
  const held = opening.move();
  return { gpu, assistant, [Symbol.dispose]: () => held.dispose() };
}
