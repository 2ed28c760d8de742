import { readEmbeddings, readLatents } from "../../../cli/generate/tensor_files.ts";
import { LogReader } from "../../../cli/serve/trainings/log_reader.ts";
import { TrainingLog } from "../../../cli/training/log_summary.ts";
import { memoryFile } from "../../../model/files/memory.ts";
import { writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { runTraining } from "../../../model/training/loop.ts";
import { partsOfState } from "../../../model/sampling_state.ts";
import { loadSamplingState, saveSamplingState } from "../../../model/state_file.ts";
import { loadVeda } from "../../../model/veda/veda_file.ts";
import { OptimizedRouter } from "../../../model/vorta/optimized_router.ts";
import { Router, type RouterShape } from "../../../model/vorta/router.ts";
import { loadRouter } from "../../../model/vorta/router_file.ts";
import { saveRouter } from "../../../model/vorta/save_router.ts";
import { PAPER_SETTINGS } from "../../../model/vorta/settings.ts";
import { saveVeda } from "../../../model/veda/save_veda.ts";
import type { Dice } from "../dice.ts";
import { mutateBytes } from "../mutate_bytes.ts";
import { headerOf, mutateSafetensors, safetensorsBytes } from "../safetensors_bytes.ts";
import type { FuzzTarget } from "../target.ts";

const SHAPE: RouterShape = { layers: 2, heads: 2, dim: 8, layerPrefixes: ["blocks.0.", "blocks.1."] };

/** A target that reads one file, of which `make` makes a valid one. */
function ofFile(
  reads: string,
  make: (path: string) => Promise<void>,
  read: (path: string) => Promise<unknown>,
): FuzzTarget {
  return {
    reads,
    open: async (folder) => {
      const path = `${folder}/a.safetensors`;
      await make(path);
      const bytes = await Deno.readFile(path);
      return async (dice: Dice) => {
        await Deno.writeFile(path, mutateSafetensors(bytes, dice));
        await read(path);
      };
    },
  };
}

const floats = (...shape: number[]) => ({
  ...{ dtype: "F32" as const, shape },
  data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.5),
});

export const latents = ofFile(
  "start noise",
  (path) => writeSafetensors(path, { latents: floats(1, 4, 2, 4, 4) }),
  readLatents,
);

export const embeddings = ofFile(
  "embeddings of prompts",
  (path) =>
    writeSafetensors(path, {
      prompt_embeds: floats(1, 6, 8),
      negative_prompt_embeds: floats(1, 6, 8),
      pooled_prompt_embeds: floats(1, 8),
      negative_pooled_prompt_embeds: floats(1, 8),
      prompt_attention_mask: { dtype: "I64", shape: [1, 6], data: BigInt64Array.of(1n, 1n, 1n, 0n, 0n, 0n) },
    }),
  (path) => readEmbeddings(path, { textDim: 8, pooledDim: 8 }),
);

export const states = ofFile(
  "how far clips are",
  (path) => {
    const shape = [1, 4, 2, 4, 4],
      { data } = floats(...shape),
      ran = { data: new Float32Array(4 * 2 * 8), shape: [4, 2, 8] };
    return saveSamplingState(path, {
      ...{ step: 2, steps: 4, numbers: { draws: 1 } },
      tensors: { latents: { data, shape }, "scheduler.sample": { data, shape }, ran },
    });
  },
  async (path) => partsOfState(await loadSamplingState(path), { shape: [1, 4, 2, 4, 4], steps: 4 }),
);

export const router = ofFile(
  "routers",
  (path) => {
    const others = [{ grid: [2, 4, 8], router: Router.random(SHAPE, 2), settings: PAPER_SETTINGS } as const];
    return saveRouter(path, Router.random(SHAPE, 1), PAPER_SETTINGS, {}, { grids: [[2, 2, 2]], others });
  },
  async (path) => await loadRouter(memoryFile("router.safetensors", await Deno.readFile(path))),
);

export const tiles = ofFile("tile scorers and plans", (path) => {
  const projection = { dtype: "F32" as const, data: new Uint8Array(new Float32Array(2 * 12 * 4).buffer) };
  const layers = SHAPE.layerPrefixes!.map(() => ({ q: projection, k: projection }));
  const scorer = { heads: 2, headDim: 4, layers, layerPrefixes: SHAPE.layerPrefixes! };
  const shapes = { shapes: [[1, 2, 2], [4, 1, 1]] as const, choices: [Uint8Array.of(0, 1), Uint8Array.of(1, 1)] };
  return saveVeda(path, { tileTokens: 4, target: "max", keep: 0.3, scorer, shapes });
}, loadVeda);

/** A training that counts its steps and changes nothing. */
function run(folder: string, steps: number, resume: boolean): Promise<number> {
  return runTraining({
    result: "router.safetensors",
    identity: { by: 1 },
    open: async (checkpoint) => {
      const state = checkpoint
        ? await OptimizedRouter.load(checkpoint, SHAPE)
        : OptimizedRouter.start(Router.random(SHAPE, 1));
      return {
        failsWhole: true,
        train: async (done, signal, onStep) => {
          for (let step = done + 1;; step++) {
            await onStep({ step });
            signal.throwIfAborted();
          }
        },
        saveCheckpoint: (path, metadata) => state.save(path, PAPER_SETTINGS, metadata),
        saveResult: (path, metadata) => saveRouter(path, state.router, PAPER_SETTINGS, metadata),
        [Symbol.dispose]() {},
      };
    },
  }, { steps, folder, resume });
}

/** Resumes from a checkpoint that was changed. */
async function resumed(
  folder: string,
  change: (bytes: Uint8Array<ArrayBuffer>, metadata: Record<string, string>) => void,
): Promise<unknown> {
  await run(folder, 3, false);
  const path = `${folder}/checkpoint.safetensors`, { header, data } = headerOf(await Deno.readFile(path));
  const changed = data.slice(), metadata = header.__metadata__ as Record<string, string>;
  change(changed, metadata);
  await Deno.writeFile(path, safetensorsBytes(JSON.stringify(header), changed));
  return await run(folder, 4, true);
}

export const training: FuzzTarget = {
  reads: "training folders",
  extremes: {
    "one flipped bit": (folder) => resumed(folder, (bytes) => bytes[10]! ^= 1),
    "no number of a step": (folder) => resumed(folder, (_, metadata) => metadata.step = ""),
    "another number of a step": (folder) => resumed(folder, (_, metadata) => metadata.step = "2"),
    "no checksum": (folder) => resumed(folder, (_, metadata) => delete metadata.checksum),
    "a moment that is not finite, with the checksum of it": async (folder) => {
      await run(folder, 3, false);
      const state = OptimizedRouter.start(Router.random(SHAPE, 1)), path = `${folder}/checkpoint.safetensors`;
      state.update(Router.random(SHAPE, 1), 1, { lr: 1, weightDecay: NaN });
      const { header } = headerOf(await Deno.readFile(path));
      await state.save(path, PAPER_SETTINGS, header.__metadata__ as Record<string, string>);
      return await run(folder, 4, true);
    },
  },
  open: async (folder) => {
    const files = { checkpoint: `${folder}/checkpoint.safetensors`, log: `${folder}/metrics.jsonl` };
    await run(folder, 3, false);
    const [checkpoint, log] = await Promise.all([Deno.readFile(files.checkpoint), Deno.readFile(files.log)]);
    return async (dice) => {
      const isLog = dice.once(4);
      await Deno.writeFile(files.checkpoint, isLog ? checkpoint : mutateSafetensors(checkpoint, dice));
      await Deno.writeFile(files.log, isLog ? mutateBytes(log, dice) : log);
      // As the server watches it.
      await new LogReader(files.log).read();
      await run(folder, 4, true);
      await TrainingLog.read(files.log);
    };
  },
};
