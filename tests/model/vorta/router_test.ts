import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { dirname, join } from "node:path";
import { type AttentionValues, readyAttention } from "../../../tools/program/clip/attention_options.ts";
import { describeFile, fileText } from "../../../cli/info/file_description.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { openGpu } from "../../../gpu/native/open.ts";
import type { Grid } from "../../../model/attention/grid.ts";
import type { AttentionTask } from "../../../model/attention/method.ts";
import { openSafetensors, readFloat32 } from "../../../model/checkpoint/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import { regularization, Router, routerFor, routes } from "../../../model/vorta/router.ts";
import { loadRouter, settingsOfRouter } from "../../../model/vorta/router_file.ts";
import { saveRouter } from "../../../model/vorta/save_router.ts";
import {
  defaultSettings,
  PAPER_SETTINGS,
  settingsFromKwargs,
  type VortaSettings,
} from "../../../model/vorta/settings.ts";
import type { Family } from "../../../model/family.ts";
import { readTransformerConfig } from "../../../model/wan/config.ts";
import { WAN } from "../../../model/wan/family.ts";
import { WanTransformer3DModel } from "../../../model/wan/transformer.ts";
import { randn } from "../../gpu.ts";
import { TOY } from "../toy_family.ts";
import { inTempDir, MODEL, ROOT } from "../../process.ts";

const FIXTURES = join(ROOT, "tests/fixtures");
const SHAPE = { layers: 2, heads: 2, dim: 8 };

type Nested = number | Nested[];
const leaves = (values: Nested): number[] => typeof values === "number" ? [values] : values.flatMap(leaves);
const flat = (values: Nested): Float32Array<ArrayBuffer> => Float32Array.from(leaves(values));
/** Made by tools/references/router_files.py with PyTorch. */
const torch:
  & Record<"temb" | "scores" | "upstream", Nested>
  & Record<"tensors" | "gradients", Record<string, number[]>> = JSON.parse(
    await Deno.readTextFile(join(FIXTURES, "router/expected.json")),
  );

function assertNear(actual: ArrayLike<number>, expected: ArrayLike<number>, bound: number, what: string): void {
  assertEquals(actual.length, expected.length, what);
  for (let i = 0; i < actual.length; i++) {
    assert(Math.abs(actual[i]! - expected[i]!) <= bound, `${what}[${i}] is ${actual[i]}, not ${expected[i]}`);
  }
}

Deno.test("a random router is the one that PyTorch makes from the seed", () => {
  const router = Router.random(SHAPE, 7);
  assertEquals([...router.parameters().keys()], Object.keys(torch.tensors));
  for (const [name, { data }] of router.parameters()) assertEquals([...data], torch.tensors[name]!, name);
});

Deno.test("scores and gradients are PyTorch's", () => {
  const router = Router.random(SHAPE, 7);
  const temb = flat(torch.temb);
  const scores = router.scores(temb);
  assertNear(scores, flat(torch.scores), 1e-7, "scores");
  const gradients = router.zeros();
  router.backward(temb, scores, flat(torch.upstream), gradients);
  for (const [name, { data }] of gradients.parameters()) assertNear(data, torch.gradients[name]!, 1e-6, name);
  // They add up.
  router.backward(temb, scores, flat(torch.upstream), gradients);
  for (const [name, { data }] of gradients.parameters()) {
    assertNear(data.map((x) => x / 2), torch.gradients[name]!, 1e-6, name);
  }
});

Deno.test("gradients of scores and regularization against finite differences in float64", () => {
  const [layers, heads, dim, count] = [3, 5, 7, 2];
  const router = Router.random({ layers, heads, dim }, 3);
  const temb = randn(count * dim, 1, 2), upstream = randn(layers * count * heads * 3, 2);
  // The loss in float64, written apart from the router: Σ upstream · scores.
  const loss = (layer: number, weight: ArrayLike<number>, bias: ArrayLike<number>) => {
    let sum = 0;
    for (let n = 0; n < count; n++) {
      const x = Array.from({ length: dim }, (_, c) => temb[n * dim + c]!).map((v) => v / (1 + Math.exp(-v)));
      for (let head = 0; head < heads; head++) {
        const powers = [0, 1, 2].map((i) => {
          const row = head * 3 + i;
          return Math.exp(x.reduce((total, value, c) => total + value * weight[row * dim + c]!, bias[row]!));
        });
        const all = powers[0]! + powers[1]! + powers[2]!;
        powers.forEach((power, i) => sum += power / all * upstream[((layer * count + n) * heads + head) * 3 + i]!);
      }
    }
    return sum;
  };
  const gradients = router.zeros();
  router.backward(temb, router.scores(temb), upstream, gradients);
  for (const [l, { weight, bias }] of router.layers.entries()) {
    const vary = (values: Float32Array, at: number, by: number) => {
      const varied = Float64Array.from(values);
      varied[at]! += by;
      return varied;
    };
    const step = 1e-4;
    const ofWeight = Array.from(
      weight,
      (_, i) => (loss(l, vary(weight, i, step), bias) - loss(l, vary(weight, i, -step), bias)) / (2 * step),
    );
    const ofBias = Array.from(
      bias,
      (_, i) => (loss(l, weight, vary(bias, i, step)) - loss(l, weight, vary(bias, i, -step))) / (2 * step),
    );
    assertNear(gradients.layers[l]!.weight, ofWeight, 2e-6, `weights of layer ${l}`);
    assertNear(gradients.layers[l]!.bias, ofBias, 2e-6, `biases of layer ${l}`);
  }

  const scores = router.scores(temb.subarray(0, dim));
  const regular = (values: ArrayLike<number>) => {
    let sum = 0;
    for (let l = 0; l < layers; l++) {
      let mean = 0;
      for (let head = 0; head < heads; head++) mean += values[(l * heads + head) * 3]! ** 2 / heads;
      sum += mean;
    }
    return sum;
  };
  const { loss: value, gradients: ofScores } = regularization(scores, heads);
  assertNear([value], [regular(scores)], 1e-12, "regularization");
  const differences = Array.from(scores, (_, i) => {
    const [up, down] = [1e-4, -1e-4].map((by) => regular(Float64Array.from(scores, (s, j) => s + (i === j ? by : 0))));
    return (up! - down!) / 2e-4;
  });
  assertNear(ofScores, differences, 1e-7, "gradient of the regularization");
});

Deno.test("routes: the best score, full below the threshold, the first among equals", () => {
  const third = Math.fround(1 / 3);
  const cases: [number[], number, number][] = [
    [[0.2, 0.5, 0.3], 0.3, 1],
    [[0.2, 0.3, 0.5], 0.3, 2],
    [[0.6, 0.2, 0.2], 0.3, 0],
    [[0.2, 0.5, 0.3], 0.51, 0],
    // float32(0.4) lies above 0.4, float32(0.7) below 0.7: the threshold counts as float32, too.
    [[0.3, 0.4, 0.3], 0.4, 1],
    [[0.2, 0.1, 0.7], 0.7, 2],
    [[0.2, 0.1, 0.7], 0.7000001, 0],
    // As torch.topk decides ties.
    [[third, third, third], 0.3, 0],
    [[0.2, 0.4, 0.4], 0.3, 1],
    [[0.4, 0.2, 0.4], 0.3, 0],
    [[0, 0, 1], 0, 2],
    [[0, 0, 1], 1, 2],
  ];
  for (const [scores, tau, expected] of cases) {
    assertEquals([...routes(Float32Array.from(scores), tau)], [expected], `${scores} at ${tau}`);
  }
  const all = Float32Array.from(cases.slice(0, 3).flatMap(([scores]) => scores));
  assertEquals([...routes(all, 0.3)], [1, 2, 0]);
});

Deno.test("scores of the demo model are those of the authors' code", async () => {
  const gpu = await openGpu({ choice: "software" });
  try {
    using source = await openCheckpoint(join(MODEL, "transformer"), "diffusion_pytorch_model");
    const config = await readTransformerConfig(join(MODEL, "transformer/config.json"));
    const transformer = await WanTransformer3DModel.load(gpu, source, config);
    using reference = await openSafetensors(join(FIXTURES, "vorta_train.safetensors"));
    const { router, settings } = await loadRouter(reference.path);
    routerFor(router, config, reference.path);
    const temb = await transformer.timeEmbedding([...await readFloat32(reference, "timestep")]);
    assertNear(router.scores(temb), await readFloat32(reference, "routing_scores"), 1e-5, "scores");
    // The fixture says "config" where routers say "self_attention_kwargs".
    assertEquals(settings, undefined);
    transformer[Symbol.dispose]();
  } finally {
    gpu.close();
  }
});

Deno.test("torch files and safetensors are told apart by what is in them", () =>
  inTempDir(async (dir) => {
    const expected = Router.random(SHAPE, 7);
    for (const name of ["float32", "slices", "transposed", "ordered", "protocol4"]) {
      const path = join(dir, "router.safetensors");
      await Deno.copyFile(join(FIXTURES, `router/${name}.pt`), path);
      const { router, settings } = await loadRouter(path);
      assertEquals({ router, settings }, { router: expected, settings: undefined }, name);
    }
    const path = join(dir, "router.pt");
    const settings: VortaSettings = { tile: [2, 3, 4], window: [3, 1, 3], bucket: [1, 2, 3], rate: 0.25 };
    await saveRouter(path, expected, settings, { steps: "100" });
    assertEquals(await loadRouter(path), { router: expected, settings, madeFor: undefined });
    using source = await openSafetensors(path);
    assertEquals(source.metadata.steps, "100");
    await assertRejects(
      () => loadRouter(join(FIXTURES, "router/before_1.6.pt")),
      TilereelError,
      "it is in the format that torch.save had before PyTorch 1.6",
    );
  }));

/** What is noted before a clip is sampled with a router of {@link SHAPE}. */
async function notesOf(
  values: AttentionValues,
  { grid, sigmas, family = WAN }: { grid: Grid; sigmas?: AttentionTask["sigmas"]; family?: Family },
): Promise<string[]> {
  const notes: string[] = [], enough = new Error("enough is known");
  const task = {
    ...{
      shape: { ...SHAPE, headDim: SHAPE.dim / SHAPE.heads },
      layout: { grid, kept: 0 },
      lengths: [0],
      sigmas,
      family,
    },
    ...{ timesteps: [999], timeEmbedding: () => Promise.reject(enough) },
    onNote: (note: string) => notes.push(note),
  };
  const { method } = await readyAttention(values, MODEL);
  const error = await method.prepare(task as unknown as AttentionTask).catch((error) => error);
  assertEquals(error, enough);
  return notes;
}

Deno.test("a router.pt without config.json gets sizes that fit the grid, and says which; Wan's sigmas are advised", () =>
  inTempDir(async (dir) => {
    const router = join(dir, "a/b/router.pt");
    await Deno.mkdir(dirname(router), { recursive: true });
    await Deno.copyFile(join(FIXTURES, "router/float32.pt"), router);
    const grid = [21, 45, 80] as const;
    const advice = "the authors of VORTA sample with the noise levels that --sigmas wan gives";
    const sizes = (text: string) =>
      `${router} has no config.json that says its sizes, so those for a grid of 21x45x80 tokens are used: ${text}`;
    assertEquals(await notesOf({ router }, { grid }), [
      sizes("--tile 6x9x8 --window 3x3x3 --bucket 2x3x2 --rate 0.5"),
      advice,
    ]);
    assertEquals(await notesOf({ router, tile: [5, 9, 8] }, { grid, sigmas: "diffusers" }), [
      sizes("--tile 5x9x8 --window 3x3x3 --bucket 2x3x2 --rate 0.5"),
    ]);
    const given = { tile: [5, 9, 8], window: [3, 3, 3], bucket: [2, 3, 2], rate: 0.5 } as const;
    assertEquals(await notesOf({ router, ...given }, { grid }), [advice]);
    assertEquals(await notesOf({ router, ...given }, { grid, family: TOY }), []);
    const own = join(dir, "own.safetensors");
    await saveRouter(own, (await loadRouter(router)).router, PAPER_SETTINGS);
    assertEquals(await notesOf({ router: own }, { grid }), []);
    await Deno.writeTextFile(join(dir, "config.json"), '{"self_attention_kwargs": {"tile_size": [5, 9, 8]}}');
    assertEquals(await notesOf({ router }, { grid, sigmas: "wan" }), []);
  }));

Deno.test("a torch router takes its settings from config.json beside it or up to two folders above", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "a/b/c/router.pt");
    await Deno.mkdir(dirname(path), { recursive: true });
    await Deno.copyFile(join(FIXTURES, "router/float32.pt"), path);
    const write = async (folder: string, kwargs: unknown) =>
      await Deno.writeTextFile(join(dir, folder, "config.json"), JSON.stringify({ self_attention_kwargs: kwargs }));
    const tile = async () => (await loadRouter(path)).settings?.tile;
    await write(".", { tile_size: [9, 9, 9] });
    assertEquals(await tile(), undefined);
    const kwargs = {
      lowres_window_size: [2, 2, 2],
      lowres_reduction_rate: 0.25,
      window_size: [3, 5, 3],
      tile_size: [2, 4, 6],
      latent_shape: [20, 45, 80],
    };
    await write("a", kwargs);
    assertEquals((await loadRouter(path)).settings, {
      tile: [2, 4, 6],
      window: [3, 5, 3],
      bucket: [2, 2, 2],
      rate: 0.25,
    });
    // Some other config.json is passed by.
    await Deno.writeTextFile(join(dir, "a/b/config.json"), "{}");
    assertEquals(await tile(), [2, 4, 6]);
    await write("a/b/c", { tile_size: [1, 1, 1] });
    assertEquals(await tile(), [1, 1, 1]);
    // Through a link, it is the link's folder that counts.
    await Deno.mkdir(join(dir, "links"));
    await Deno.symlink(path, join(dir, "links/router.pt"));
    assertEquals((await loadRouter(join(dir, "links/router.pt"))).settings?.tile, [9, 9, 9]);

    const refused = async (kwargs: unknown, message: string) => {
      await write("a/b/c", kwargs);
      await assertRejects(() => loadRouter(path), TilereelError, message);
    };
    await refused([], "self_attention_kwargs is [], but a JSON object was expected");
    await refused({ tile_size: [5, 9] }, "tile_size has 2 entries, but 3 were expected");
    await refused({ tile_size: [5, 0, 8] }, "tile_size is [5,0,8], but a list of whole numbers of at least 1");
    await refused({ lowres_reduction_rate: "half" }, 'lowres_reduction_rate is "half", but a number was expected');
    await refused({ lowres_reduction_rate: 0.95 }, "a reduction rate of 0.95 keeps nothing of a bucket of 12 tokens");
    await refused({ lowres_reduction_rate: -1 }, "a reduction rate of -1");
  }));

Deno.test("a router's layers have the names and the order of its model's layers", () =>
  inTempDir(async (dir) => {
    const kinds = ["transformer_blocks", "single_transformer_blocks"] as const;
    const layerPrefixes = kinds.flatMap((kind) => [0, 1, 2].map((block) => `${kind}.${block}.`));
    const shape = { ...SHAPE, layers: 6, layerPrefixes }, whole = Router.random(shape, 5);
    const path = join(dir, "router.safetensors");
    const tensors = [...whole.parameters()].map(([name, tensor]) => [name, { dtype: "F32" as const, ...tensor }]);
    assertEquals(tensors[7]![0], "single_transformer_blocks.0.router.linear.bias");
    for (const order of [tensors, tensors.toReversed(), tensors.toSorted()]) {
      await writeSafetensors(path, Object.fromEntries(order));
      assertEquals(routerFor((await loadRouter(path)).router, shape, path), whole);
    }
    await saveRouter(path, whole, PAPER_SETTINGS);
    const router = routerFor((await loadRouter(path)).router, shape, path);
    assertEquals(router, whole);
    assertThrows(
      () => routerFor(router, { ...SHAPE, layers: 6 }, path),
      TilereelError,
      'it routes 6 blocks with 2 heads on 8 channels from "transformer_blocks.0." on, but this model has 6 blocks with ' +
        '2 heads on 8 channels from "blocks.0." on',
    );
  }));

Deno.test("a file holds routers for clips of several sizes, each with its tiles; the nearest is used", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "router.safetensors"), [small, large] = [Router.random(SHAPE, 5), Router.random(SHAPE, 6)];
    const settings: VortaSettings = { tile: [4, 4, 4], window: [3, 3, 3], bucket: [2, 2, 2], rate: 0.5 };
    const [a, b, c]: readonly [Grid, Grid, Grid] = [[8, 8, 8], [8, 16, 16], [16, 32, 32]];
    const others = [{ grid: c, router: large, settings, denseShare: 0.1 }];
    await saveRouter(path, small, defaultSettings, {}, { grids: [a, b], others, denseShare: 0.05 });
    await assertRejects(
      () => saveRouter(path, small, defaultSettings, {}, { denseShare: 0.1 }),
      TilereelError,
      "denseShare is said for clips of the grids, and none was given",
    );
    const loaded = await loadRouter(path);
    const ofSmall = { router: small, settings: undefined, denseShare: 0.05 };
    assertEquals(loaded, {
      ...{ router: small, settings: undefined },
      sizes: [{ grid: a, ...ofSmall }, { grid: b, ...ofSmall }, ...others],
      madeFor: undefined,
    });
    const of = settingsOfRouter(loaded);
    assertEquals([of(b), of(c), of([16, 32, 40])], [defaultSettings(b), settings, settings]);
    // Short clips take what was made for their sides: 5 frames, and one.
    assertEquals([of([2, 32, 32]), of([1, 32, 32])], [settings, settings]);
    assertEquals(settingsOfRouter({ settings })(a), settings);
    assertEquals(settingsOfRouter({ settings: undefined })(a), defaultSettings(a));
    // Options come before the file.
    const { settings: record } = await readyAttention({ attention: "vorta", router: path, tile: [1, 2, 3] }, MODEL);
    assertEquals([record(c).tile, record(c).window], ["1x2x3", "3x3x3"]);
    assertEquals(await notesOf({ router: path }, { grid: c }), []);
    assertEquals(await notesOf({ router: path }, { grid: [16, 32, 40] }), [
      `the routes of ${path} were made for 3 sizes, of which the nearest is used: for clips of 16x32x32 tokens, and ` +
      "this one has 16x32x40",
    ]);
    const info = await describeFile(path);
    assertEquals(info.sizes, [
      { grid: a, denseShare: 0.05 },
      { grid: b, denseShare: 0.05 },
      { grid: c, denseShare: 0.1 },
    ]);
    assertStringIncludes(fileText(info), "for clips of 8x8x8, 8x16x16, 16x32x32 tokens; others use the nearest");
    assertStringIncludes(fileText(info), "with 16x32x32 tokens, the first 10 % of the steps have full attention");

    const tensors = Object.fromEntries(
      [...small.parameters()].map(([name, t]) => [name, { dtype: "F32" as const, ...t }]),
    );
    for (
      const [text, message] of [
        ["{", 'router is "{", but a JSON object was expected'],
        [
          '{"grids": [[1, 2]]}',
          "grids is [[1,2]], but a list of numbers of tokens such as [[21, 45, 80]] was expected",
        ],
        ['{"others": 3}', "others is no list"],
        ['{"others": [{"grids": [[1, 2, 3]]}]}', `${path} holds no router; tensors such as "others.0.blocks.0.`],
      ] as const
    ) {
      await writeSafetensors(path, tensors, { router: text });
      await assertRejects(() => loadRouter(path), TilereelError, message);
    }
  }));

Deno.test("routers that lack something are refused by name", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "router.safetensors");
    const whole = () => {
      const tensors: Record<string, TensorToWrite> = {};
      for (const [name, tensor] of Router.random(SHAPE, 1).parameters()) tensors[name] = { dtype: "F32", ...tensor };
      return tensors;
    };
    const refused = async (change: (tensors: Record<string, TensorToWrite>) => void, message: string) => {
      const tensors = whole();
      change(tensors);
      await writeSafetensors(path, tensors);
      await assertRejects(() => loadRouter(path), TilereelError, message);
    };
    const weight = "blocks.0.router.linear.weight", bias = "blocks.1.router.linear.bias";
    const of = (...shape: number[]): TensorToWrite => ({
      dtype: "F32",
      shape,
      data: new Float32Array(shape.reduce((a, b) => a * b)),
    });
    await refused((t) => delete t[bias], `lacks the tensor "${bias}": it has 3 router tensors, but`);
    await refused((t) => delete t[weight], `lacks the tensor "${weight}"`);
    await refused((t) => t[weight] = of(7, 8), `"${weight}" in ${path} has the shape [7, 8], but [6, 8] was expected`);
    await refused((t) => t[weight] = of(48), `has the shape [48], but [3 · heads, dim] was expected`);
    await refused((t) => t[bias] = of(7), `"${bias}" in ${path} has the shape [7], but [6] was expected`);
    await refused((t) => t["blocks.9.router.linear.bias"] = of(6), `lacks the tensor "blocks.2.router.linear.weight"`);
    await refused((t) => t[`module.${bias}`] = of(6), `holds two tensors for "${bias}"`);
    await refused(
      (t) => (t[bias]!.data as Float32Array)[3] = NaN,
      `"${bias}" in ${path} holds numbers that are not finite`,
    );
    await refused((t) => {
      for (const name of Object.keys(t)) delete t[name];
      t["blocks.0.attn1.to_q.weight"] = of(2, 2);
    }, `holds no router, but the tensor "blocks.0.attn1.to_q.weight" alone; tensors such as "${weight}" were expected`);
    // What else is in the file does not matter.
    await writeSafetensors(path, { ...whole(), "exp_avg.blocks.7.router.linear.bias": of(6), step: of(1) });
    assertEquals((await loadRouter(path)).router, Router.random(SHAPE, 1));
    await assertRejects(() => loadRouter(join(dir, "none.pt")), TilereelError, "none.pt does not exist");
    await Deno.writeTextFile(path, "hello, I am a text");
    await assertRejects(() => loadRouter(path), TilereelError, "is a text file that begins");

    assertThrows(
      () => routerFor(Router.random(SHAPE, 1), { layers: 2, heads: 4, dim: 8 }, "x.pt"),
      TilereelError,
      "x.pt was made for another model: it routes 2 blocks with 2 heads on 8 channels, but this model has 2 blocks with 4",
    );
    assertEquals(settingsFromKwargs({}, "x"), PAPER_SETTINGS);
  }));
