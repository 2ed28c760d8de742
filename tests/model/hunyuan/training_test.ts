import { join } from "node:path";
import { type GenerateOptions, VideoPipeline } from "../../../model/pipeline.ts";
import { readConditionings } from "../../../model/conditioning.ts";
import type { AttentionMethod } from "../../../model/attention/method.ts";
import { candidateShapes, searchTiles } from "../../../model/veda/tile_search.ts";
import { choosePlan } from "../../../model/veda/plan_choice.ts";
import { samplingRuns } from "../../../model/veda/sampling_states.ts";
import { TILES_FILE, trainTiles } from "../../../model/veda/tile_trainer.ts";
import { loadVeda } from "../../../model/veda/veda_file.ts";
import { vedaAttention } from "../../../model/veda/methods.ts";
import { routedAttention } from "../../../model/vorta/methods.ts";
import { routedModel } from "../../../model/vorta/routed_model.ts";
import { Router, routerFor, routerShape } from "../../../model/vorta/router.ts";
import { loadRouter } from "../../../model/vorta/router_file.ts";
import { ROUTER_FILE, trainRouter } from "../../../model/vorta/trainer.ts";
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { assertClose, plainOnly, randn, testVariants } from "../../gpu.ts";
import { inTempDir } from "../../process.ts";
import { CLIP, LATENTS, tinyModel } from "./tiny.ts";

const SETTINGS = { tile: [1, 2, 2], window: [1, 1, 1], bucket: [1, 2, 2], rate: 0.5 } as const;
const USUAL = { prompt: "a red", seed: 3 };

testVariants(
  "HunyuanVideo: routers are trained, and the file that results routes clips",
  ({ gpu }) =>
    inTempDir(async (folder) => {
      const model = await tinyModel();
      using transformer = await model.loadTransformer(gpu);
      using prompts = model.promptEncoder(gpu);
      const [conditioning] = await readConditionings(gpu, await prompts.encode(["a blue"], 12));
      const size = LATENTS.reduce((a, b) => a * b), losses: number[] = [];
      const sample = (index: number) =>
        Promise.resolve({ latents: randn(size, index), shape: LATENTS, conditioning: conditioning! });
      const { router } = await trainRouter({
        ...{ model: routedModel(gpu, model, transformer), data: { size: 2, digest: "of two", sample } },
        ...{ settings: SETTINGS, steps: 2, folder, onStep: ({ loss }) => losses.push(loss) },
      });
      assert(losses.length === 2 && losses.every((loss) => Number.isFinite(loss) && loss > 0));
      // Routers of blocks of both kinds have moved.
      const before = Router.random(routerShape(model.shape), 0).parameters(), after = router.parameters();
      assertEquals([...after.keys()], [...before.keys()]);
      for (const name of ["transformer_blocks.1", "single_transformer_blocks.2"]) {
        const key = `${name}.router.linear.weight`;
        assertNotEquals(after.get(key)!.data, before.get(key)!.data);
      }
      const loaded = await loadRouter(join(folder, ROUTER_FILE));
      // The file has the blocks in the order of the alphabet: single-stream blocks first.
      assert(loaded.router.layerPrefixes[0]!.startsWith("single"));
      assertEquals(routerFor(loaded.router, routerShape(model.shape), "it"), router);
      const pipeline = await VideoPipeline.of(await tinyModel(), { gpu });
      const render = async (attention?: AttentionMethod, options: Partial<GenerateOptions> = {}) => {
        let density = 0;
        const latents = await pipeline.sampleLatents({
          ...{ ...USUAL, ...options, onAttention: (report) => density = report.density },
          ...attention && { attention },
        });
        const numbers = await gpu.read(latents);
        gpu.release(latents);
        return { numbers, density };
      };
      const routed = (tau: number) => routedAttention({ router: loaded.router, settings: () => SETTINGS, tau });
      const full = await render(), dense = await render(routed(1)), sparse = await render(routed(0));
      assertClose(dense.numbers, full.numbers, 2e-5);
      assert(sparse.density < 0.9 && sparse.numbers.every(Number.isFinite), `density ${sparse.density}`);
      assertNotEquals(sparse.numbers, full.numbers);
      // The model is told the scale of guidance; there is no second pass.
      assertNotEquals((await render(undefined, { guidance: 1 })).numbers, full.numbers);
      assertEquals((await render(undefined, { negativePrompt: "noise" })).numbers, full.numbers);
      pipeline.close();
    }),
  plainOnly,
);

testVariants(
  "HunyuanVideo: shapes of tiles are searched and scores of tiles trained, with text beside the video",
  ({ gpu }) =>
    inTempDir(async (folder) => {
      const pipeline = await VideoPipeline.of(await tinyModel(), { gpu });
      const clip = { ...USUAL, ...CLIP, negativePrompt: "", steps: 3, guidance: 6 };
      const runs = await samplingRuns(gpu, pipeline, [clip]);
      assertEquals(runs.passes(0), 1);
      const shapes = candidateShapes(pipeline.layout(CLIP).grid, 8);
      const table = await searchTiles({ gpu, runs, shapes, keep: 0.3, looks: 1 });
      const training = { gpu, runs, shapes: choosePlan(table, 2), tileTokens: 8, keep: 0.3, steps: 3, folder };
      assertEquals(await trainTiles(training), 3);
      const { scorer, shapes: plan } = await loadVeda(join(folder, TILES_FILE));
      const attention = vedaAttention({
        keep: 0.3,
        tileTokens: 8,
        denseSteps: 0,
        ...scorer && { scorer },
        ...plan && { shapes: plan },
      });
      let density = 1;
      const onAttention = (report: { density: number }) => void (density = report.density);
      const latents = await pipeline.sampleLatents({ ...USUAL, attention, onAttention });
      assert((await gpu.read(latents)).every(Number.isFinite));
      assert(density < 0.8, `density ${density}`);
      gpu.release(latents);
      pipeline.close();
    }),
  plainOnly,
);
