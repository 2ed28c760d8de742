/**
 * Writes a model as a folder in the diffusers layout, in the formats that load fastest. Every tensor is read once, and
 * only one is in memory at a time.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { type ModelFolder, openModelFolder } from "../checkpoint/model_folder.ts";
import { openPart, partConfig } from "../checkpoint/open_part.ts";
import type { GivenParts } from "../checkpoint/part_place.ts";
import { plannedBytes, type PlannedTensor, safetensorsHeader } from "../checkpoint/safetensors_writer.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import { writeAtomically } from "../files/output.ts";
import { type FileStore, readBytes } from "../files/store.ts";
import { type Lora, loraDeltas } from "../lora/lora.ts";
import type { OnProgress } from "../progress.ts";
import { openWeightOptions } from "../weights/weight_options.ts";
import { type ConvertFormat, type PlannedPart, planPart } from "./planned_part.ts";

/** Progress counts such pieces. */
const MB = 1e6;
/** Files of a model beside its parts. */
const OWN_FILES = ["generation.json", "router.safetensors", "tiles.safetensors", "few_steps.safetensors"];

/** Options of {@link openConversion}. */
export interface ConvertOptions {
  /** Where numbers are rounded; the caller's. */
  readonly gpu: Gpu;
  readonly format: ConvertFormat;
  /** Used in place of the model's own parts. */
  readonly parts?: GivenParts | undefined;
  /** Are added to the weights for good. */
  readonly loras?: readonly Lora[] | undefined;
}

/** A conversion that is ready. It holds files until it is disposed of. */
export interface Conversion extends Disposable {
  /** The model's kind: "Wan 2.1". */
  readonly kind: string;
  /** The bytes of the weights that will be written. */
  readonly bytes: number;
  /** Parts that the model comes without. */
  readonly missing: readonly string[];
  /**
   * Writes the folder, which appears when it is complete.
   *
   * @param onProgress told "convert" in MB
   * @throws {TilereelError} if a file cannot be read or written
   * @throws the signal's reason, if it is aborted
   */
  write(target: string, onProgress: OnProgress, signal?: AbortSignal): Promise<void>;
}

/** A part with weights. */
interface WeightedPart {
  readonly name: string;
  readonly stem: string;
  readonly place: FileStore;
  readonly source: TensorSource;
  readonly planned: PlannedPart;
  /** The contents of its `config.json`. */
  readonly config: Readonly<Record<string, unknown>>;
}

/**
 * Opens a model, and plans its conversion. Headers are read, no tensors.
 *
 * @throws {TilereelError} if there is no model, a part that it needs is missing, or a LoRA does not fit
 */
export async function openConversion(
  model: string | FileStore,
  { gpu, format, parts, loras = [] }: ConvertOptions,
): Promise<Conversion> {
  using opening = new DisposableStack();
  const folder = await openModelFolder(model, parts), { family } = folder;
  const options = opening.use(await openWeightOptions(gpu, family, { adjust: loraDeltas(loras) }));
  const weighted: WeightedPart[] = [], others = new Map<string, FileStore>(), missing: string[] = [];
  for (const [name, { weights, optional }] of Object.entries(family.parts)) {
    let place: FileStore;
    try {
      place = await folder.component(name);
    } catch (error) {
      if (!optional || !(error instanceof TilereelError)) throw error;
      missing.push(name);
      continue;
    }
    if (!weights) {
      others.set(name, place);
      continue;
    }
    const { values } = await partConfig(place, weights), source = opening.use(await openPart(place, weights));
    const planned = planPart(gpu, source, weights, { format, deltas: options.of(name).adjust });
    // Scales are found by their names, and other programs would look for what is not there any more.
    const { quantization_config: _, ...config } = values;
    weighted.push({ name, stem: weights.stem, place, source, planned, config });
  }
  const owned = opening.move(), tensors = weighted.flatMap(({ planned }) => planned.tensors);
  const bytes = tensors.reduce((sum, tensor) => sum + plannedBytes(tensor), 0);
  return {
    ...{ kind: family.name, bytes, missing },
    write: (target, onProgress, signal) =>
      writeAtomically(target, async (temporary) => {
        const progress = new Counter(bytes, onProgress);
        await Deno.mkdir(temporary);
        for (const part of weighted) await writePart(temporary, part, gpu, progress, signal);
        for (const [name, place] of others) await copyFiles(place, `${temporary}/${name}`);
        await writeOwnFiles(folder, missing, temporary);
        progress.end();
      }),
    [Symbol.dispose]: () => owned.dispose(),
  };
}

/** Counts bytes as MB. */
class Counter {
  #done = 0;

  constructor(private readonly bytes: number, private readonly onProgress: OnProgress) {}

  get #total(): number {
    return Math.max(1, Math.ceil(this.bytes / MB));
  }

  add(bytes: number, detail: string): void {
    this.#done += bytes;
    const done = Math.floor(this.#done / MB);
    if (done < this.#total) this.onProgress({ stage: "convert", done, total: this.#total, detail });
  }

  end(): void {
    this.onProgress({ stage: "convert", done: this.#total, total: this.#total });
  }
}

async function writePart(
  target: string,
  { name, stem, planned: { tensors, jobs }, config }: WeightedPart,
  gpu: Gpu,
  progress: Counter,
  signal: AbortSignal | undefined,
): Promise<void> {
  await Deno.mkdir(`${target}/${name}`);
  await Deno.writeTextFile(`${target}/${name}/config.json`, `${JSON.stringify(config, null, 2)}\n`);
  const header = safetensorsHeader(tensors, { format: "pt" }), places = new Map<PlannedTensor, number>();
  let end = header.length;
  for (const tensor of tensors) {
    places.set(tensor, end);
    end += plannedBytes(tensor);
  }
  using file = await Deno.open(`${target}/${name}/${stem}.safetensors`, { createNew: true, write: true });
  const write = async (at: number, bytes: Uint8Array) => {
    await file.seek(at, Deno.SeekMode.Start);
    for (let written = 0; written < bytes.length;) written += await file.write(bytes.subarray(written));
  };
  await write(0, header);
  // A full disk shows now, and not after an hour.
  await file.truncate(end);
  for (const job of jobs) {
    signal?.throwIfAborted();
    await job.run(async (tensor, at, bytes) => {
      await write(places.get(tensor)! + at, bytes);
      progress.add(bytes.length, `MB, ${name}`);
    });
    gpu.trim();
  }
}

/** The files of a part that has no weights: a scheduler, a tokenizer. */
async function copyFiles(place: FileStore, target: string): Promise<void> {
  await Deno.mkdir(target);
  for (const name of await place.list()) {
    const file = place.file(name);
    if (name.startsWith(".") || await file.kind() !== "file") continue;
    await Deno.writeFile(`${target}/${name}`, await readBytes(file));
  }
}

/** `model_index.json` with all parts, and the model's other files. */
async function writeOwnFiles(folder: ModelFolder, missing: readonly string[], target: string): Promise<void> {
  const index = JSON.parse(new TextDecoder().decode(await readBytes(folder.file("model_index.json"))));
  for (const [name, { classes }] of Object.entries(folder.family.parts)) {
    const named = folder.className(name) ?? classes?.[0];
    const library = /^(text_encoder|tokenizer|image_encoder)/.test(name) ? "transformers" : "diffusers";
    if (missing.includes(name)) index[name] = [null, null];
    else if (named !== undefined) index[name] ??= [library, named];
    else index[name] ??= [library, "PreTrainedTokenizerFast"];
  }
  await Deno.writeTextFile(`${target}/model_index.json`, `${JSON.stringify(index, null, 2)}\n`);
  for (const name of OWN_FILES) {
    const file = folder.file(name);
    if (await file.kind().catch(() => undefined) === "file") {
      await Deno.writeFile(`${target}/${name}`, await readBytes(file));
    }
  }
}
