import type { InferenceSession, Tensor as OrtTensor } from "onnxruntime-web";
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { fileAt } from "../files/disk.ts";
import { readBytes, type StoredFile } from "../files/store.ts";
import { notWanted, type Recognised, recogniseFile } from "../checkpoint/recognise.ts";
import {
  checkTextDim,
  joinIds,
  type OpenTextEncoder,
  type TextEncodeOptions,
  type TextEncoder,
  type TokenizedPrompt,
} from "../text_encoder.ts";

/** The names that exporters of transformers' encoders use. */
const IDS = "input_ids", MASK = "attention_mask", OUTPUT = "last_hidden_state";

/** The values that make one. */
const EXPORT = 'export the text encoder with "optimum-cli export onnx", or leave it out and use the model\'s own';

/** Failures are thrown, and tilereel reports them. */
const QUIET = { logSeverityLevel: 4 } as const;

/**
 * An ONNX text encoder, run on the CPU by onnxruntime's WebAssembly build: token ids and their mask in (int64 or int32,
 * [batch, tokens]), embeddings out (float32, [batch, tokens, channels]). Inputs and the output are found by the names
 * input_ids, attention_mask and last_hidden_state, or else, where there are two and one, by their order.
 */
export function onnxTextEncoder(file: string | StoredFile): OpenTextEncoder {
  const stored = fileAt(file);
  return (gpu, textDim) => open(gpu, stored, textDim);
}

async function open(gpu: Gpu, file: StoredFile, textDim: number): Promise<OnnxTextEncoder> {
  const { path } = file;
  // Before it is read: what is something else may be very large.
  const recognised = await recogniseFile(file, "an ONNX model");
  if (!["onnx", "unknown"].includes(recognised.kind)) {
    throw notWanted(path, withoutTodo(recognised), "an ONNX model", EXPORT);
  }
  const bytes = await readBytes(file);
  // Loaded here rather than with the program: its WebAssembly is large and most runs don't need it.
  const ort = await import("onnxruntime-web");
  // One thread needs no workers, and so no script that a worker could only load from a file of its own.
  ort.env.wasm.numThreads = 1;
  let session: InferenceSession;
  try {
    session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], ...QUIET });
  } catch (error) {
    throw new TilereelError(`${path} is not an ONNX model that onnxruntime can load: ${reason(error)}`, {
      cause: error,
    });
  }
  try {
    return new OnnxTextEncoder(gpu, path, textDim, session, signature(path, session), ort.Tensor);
  } catch (error) {
    await session.release();
    throw error;
  }
}

/** Other formats of the same weights are not what is asked for. */
function withoutTodo({ kind, is, todo }: Recognised): Recognised {
  return ["lfs", "html", "archive", "empty", "zeros"].includes(kind) && todo ? { kind, is, todo } : { kind, is };
}

/** The names of what goes in and comes out, and the integers' format. */
interface Signature {
  readonly ids: TokenInput;
  readonly mask: TokenInput;
  readonly output: string;
}

interface TokenInput {
  readonly name: string;
  readonly type: "int64" | "int32";
}

/** @throws {TilereelError} if the session is no text encoder */
function signature(path: string, session: InferenceSession): Signature {
  const { inputMetadata, outputMetadata } = session;
  const describe = (values: readonly InferenceSession.ValueMetadata[]) =>
    values.map((value) => value.isTensor ? `${value.name} ${value.type} [${value.shape.join(", ")}]` : value.name)
      .join(", ") || "none";
  const wrong = () =>
    new TilereelError(
      `${path} is not a text encoder: its inputs are ${describe(inputMetadata)} and its outputs ` +
        `${describe(outputMetadata)}, but ${IDS} and ${MASK} (int64 [batch, tokens]) and ${OUTPUT} ` +
        `(float32 [batch, tokens, channels]) were expected`,
    );
  const input = (value: InferenceSession.ValueMetadata | undefined): TokenInput => {
    if (!value?.isTensor || (value.type !== "int64" && value.type !== "int32") || value.shape.length !== 2) {
      throw wrong();
    }
    return { name: value.name, type: value.type };
  };
  if (inputMetadata.length !== 2) throw wrong();
  const swapped = inputMetadata[0]!.name === MASK || inputMetadata[1]!.name === IDS;
  const [ids, mask] = (swapped ? inputMetadata.toReversed() : inputMetadata).map(input) as [TokenInput, TokenInput];
  const output = outputMetadata.find((value) => value.name === OUTPUT) ??
    (outputMetadata.length === 1 ? outputMetadata[0] : undefined);
  if (!output?.isTensor || output.type !== "float32" || output.shape.length !== 3) {
    throw wrong();
  }
  return { ids, mask, output: output.name };
}

/** An ONNX session as a {@link TextEncoder}. */
export class OnnxTextEncoder implements TextEncoder {
  constructor(
    private readonly gpu: Gpu,
    private readonly path: string,
    private readonly textDim: number,
    private readonly session: InferenceSession,
    private readonly signature: Signature,
    private readonly OrtTensor: typeof import("onnxruntime-web").Tensor,
  ) {}

  async encode(
    prompts: readonly TokenizedPrompt[],
    { onProgress, signal }: TextEncodeOptions = {},
  ): Promise<{ readonly text: Tensor }> {
    const { ids, tokens } = joinIds(prompts);
    const shape = [prompts.length, tokens];
    const mask = new Int32Array(ids.length);
    for (const [i, { length }] of prompts.entries()) mask.fill(1, i * tokens, i * tokens + length);

    onProgress?.({ stage: "encode prompt", done: 0, total: 1 });
    signal?.throwIfAborted();
    const output = await this.#run(
      this.#input(this.signature.ids, ids, shape),
      this.#input(this.signature.mask, mask, shape),
    );
    const [batch, length, textDim] = output.dims as readonly [number, number, number];
    if (batch !== prompts.length || length !== tokens) {
      throw new TilereelError(
        `${this.path} made [${output.dims.join(", ")}] of ${prompts.length} prompts of ${tokens} tokens, ` +
          `but [${prompts.length}, ${tokens}, ${this.textDim}] was expected`,
      );
    }
    checkTextDim(this.path, textDim, this.textDim);
    const embeddings = output.data as Float32Array;
    for (const [i, prompt] of prompts.entries()) {
      embeddings.fill(0, (i * tokens + prompt.length) * textDim, (i + 1) * tokens * textDim);
    }
    onProgress?.({ stage: "encode prompt", done: 1, total: 1 });
    // What is thrown here is thrown before there is a tensor to free.
    try {
      signal?.throwIfAborted();
      return { text: this.gpu.upload(embeddings, [...shape, textDim]) };
    } finally {
      output.dispose();
    }
  }

  [Symbol.dispose](): void {
    // Frees memory inside the WebAssembly instance; nothing waits for that.
    this.session.release().catch(() => {});
  }

  #input({ name, type }: TokenInput, values: Int32Array, shape: readonly number[]): [string, OrtTensor] {
    const data = type === "int64" ? BigInt64Array.from(values, BigInt) : values;
    return [name, new this.OrtTensor(type, data, shape)];
  }

  async #run(...inputs: readonly [string, OrtTensor][]): Promise<OrtTensor> {
    const { output } = this.signature;
    try {
      return (await this.session.run(Object.fromEntries(inputs), [output], QUIET))[output]!;
    } catch (error) {
      throw new TilereelError(`${this.path} failed to encode the prompt: ${reason(error)}`, { cause: error });
    }
  }
}

/** onnxruntime's message, as a part of one sentence. */
function reason(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replace(/^.*ERROR_MESSAGE: /s, "").replace(/\s+/g, " ").replace(/\.$/, "").trim();
}
