/**
 * What can go wrong, each as the user meets it: one sentence on the standard error, exit status 1, and nothing
 * half-written left behind.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { TilereelError } from "../../gpu/common/errors.ts";
import { openGpu } from "../../gpu/native/open.ts";
import { writeSafetensors } from "../../model/checkpoint/write_safetensors.ts";
import { VideoPipeline } from "../../model/pipeline.ts";
import { BrokenModel } from "../broken_model.ts";
import { assertRefused, execute, inTempDir, listFiles, MODEL, program, QUICK, ROOT, tilereel } from "../process.ts";

const PIPELINE_FIXTURE = join(ROOT, "tests/fixtures/demo_pipeline.safetensors");
const SHARDS = (i: number) => `transformer/diffusion_pytorch_model-0000${i}-of-00003.safetensors`;
const VAE = "vae/diffusion_pytorch_model.safetensors";
const TEXT_ENCODER = "text_encoder/model.safetensors";

/** Runs `generate` into an empty folder, which must be refused and leave the folder as it was. */
async function refused(message: string, args: readonly string[], prompt = ["a red circle"]): Promise<void> {
  await inTempDir(async (dir) => {
    const out = args.includes("--prompts") ? dir : join(dir, "x.mp4");
    const outArgs = args.some((arg) => arg.startsWith("--out")) ? [] : ["--out", out];
    assertRefused(await tilereel(["generate", ...prompt, "--quiet", ...outArgs, ...args]), message);
    assertEquals(listFiles(dir), []);
  });
}

Deno.test("model folders that cannot be used", async (t) => {
  const cut = (bytes: Uint8Array<ArrayBuffer>) => bytes.subarray(0, bytes.length - 1000);
  const garbage = () => new TextEncoder().encode("this is no such file, however long it may be, not at all");
  const cases: [what: string, message: string, edit: (model: BrokenModel) => Promise<unknown>][] = [
    ["no index", "lacks model_index.json, which says what model it is", (m) => m.remove("model_index.json")],
    ["no transformer", "has no folder transformer, which a model of Wan 2.1 needs", (m) => m.remove("transformer")],
    ["no text encoder", "has no folder text_encoder, which a model of Wan 2.1 needs", (m) => m.remove("text_encoder")],
    ["no tokenizer", "has no folder tokenizer, which a model of Wan 2.1 needs", (m) => m.remove("tokenizer")],
    ["no weights", "vae holds no weights; diffusion_pytorch_model.safetensors", (m) => m.remove(VAE)],
    [
      "a missing shard",
      `${SHARDS(2)} is missing: diffusion_pytorch_model.safetensors.index.json lists it`,
      (m) => m.remove(SHARDS(2)),
    ],
    ["a truncated shard", `${SHARDS(1)} is truncated: it has`, (m) => m.replace(SHARDS(1), cut)],
    ["a truncated VAE", `${VAE} is truncated: it has`, (m) => m.replace(VAE, cut)],
    ["a truncated text encoder", `${TEXT_ENCODER} is truncated: it has`, (m) => m.replace(TEXT_ENCODER, cut)],
    [
      "an empty file",
      `${VAE} is empty, but a safetensors or GGUF file was expected`,
      (m) => m.replace(VAE, () => new Uint8Array(0)),
    ],
    ["no safetensors", `${VAE} is a text file that begins "this is no such`, (m) => m.replace(VAE, garbage)],
    [
      "a damaged header",
      `${VAE} is damaged or not a safetensors file: its header is not JSON`,
      (m) => m.replace(VAE, (bytes) => bytes.fill(7, 100, 200)),
    ],
    [
      "overlapping tensors",
      `${VAE} is damaged or not a safetensors file: tensor "decoder.conv_in.bias" has `,
      (m) => m.tensor(VAE, "decoder.conv_in.bias", (entry) => entry.shape = [65]),
    ],
    [
      "a wrong shape in the transformer",
      `has the shape [128, 512], but [256, 256] was expected; config.json and the weights must belong`,
      (m) => m.tensor(SHARDS(1), "blocks.0.attn1.to_q.weight", (entry) => entry.shape = [128, 512]),
    ],
    [
      "a wrong shape in the VAE",
      `tensor "decoder.conv_in.weight" in`,
      (m) => m.tensor(VAE, "decoder.conv_in.weight", (entry) => entry.shape = [16, 64, 3, 3, 3]),
    ],
    [
      "a wrong shape in the text encoder",
      `tensor "encoder.block.0.layer.0.SelfAttention.k.weight" in`,
      (m) => m.tensor(TEXT_ENCODER, "encoder.block.0.layer.0.SelfAttention.k.weight", (e) => e.shape = [64, 256]),
    ],
    [
      "a wrong dtype in the transformer",
      "is stored as I16, but F32, F16, BF16, F8_E4M3 or F8_E5M2 was expected",
      (m) => m.tensor(SHARDS(1), "blocks.0.attn1.to_q.weight", (entry) => entry.dtype = "I16"),
    ],
    [
      "a wrong dtype in the VAE",
      "is stored as I16, but F32, F16, BF16, F64, F8_E4M3 or F8_E5M2 was expected",
      (m) => m.tensor(VAE, "decoder.conv_in.bias", (entry) => entry.dtype = "I16"),
    ],
    [
      "an unknown dtype",
      'tensor "decoder.conv_in.bias" has the dtype "F3", which tilereel does not know',
      (m) => m.tensor(VAE, "decoder.conv_in.bias", (entry) => entry.dtype = "F3"),
    ],
    [
      "another pipeline",
      "this model is Wan VACE (WanVACEPipeline), but only text or pictures to video",
      (m) => m.set("model_index.json", { _class_name: "WanVACEPipeline" }),
    ],
    [
      "an unsupported head size",
      "transformer/config.json: attention_head_dim 48 is not supported",
      (m) => m.set("transformer/config.json", { attention_head_dim: 48 }),
    ],
    [
      "more blocks than there are",
      'lists no tensor "blocks.8.',
      (m) => m.set("transformer/config.json", { num_layers: 9 }),
    ],
    [
      "another VAE",
      "vae/config.json: patch_size 4 is not supported",
      (m) => m.set("vae/config.json", { patch_size: 4 }),
    ],
    [
      "latents that do not fit",
      "the transformer takes 16 and gives 16 latent channels, but the VAE has 8",
      (m) => m.set("vae/config.json", { z_dim: 8, latents_mean: Array(8).fill(0), latents_std: Array(8).fill(1) }),
    ],
    [
      "another prediction",
      'scheduler/scheduler_config.json: prediction_type "epsilon" is not supported',
      (m) => m.set("scheduler/scheduler_config.json", { prediction_type: "epsilon" }),
    ],
    [
      "another activation",
      'text_encoder/config.json: dense_act_fn "relu" is not supported',
      (m) => m.set("text_encoder/config.json", { dense_act_fn: "relu" }),
    ],
    [
      "a value of the wrong type",
      'transformer/config.json: num_layers is "8", but a whole number',
      (m) => m.set("transformer/config.json", { num_layers: "8" }),
    ],
    [
      "an unknown default",
      'generation.json: "frame" is not known; the keys are',
      (m) => m.set("generation.json", { frame: 5 }),
    ],
    [
      "defaults that do not fit",
      "generation.json: frames 30 does not fit",
      (m) => m.set("generation.json", { frames: 30 }),
    ],
    ["a config that is no JSON", "vae/config.json is not valid JSON", (m) => m.replace("vae/config.json", garbage)],
    ["a damaged tokenizer", "tokenizer/tokenizer.json", (m) => m.replace("tokenizer/tokenizer.json", garbage)],
  ];
  await t.step("no such folder", () => refused("/no/such/model does not exist", ["--model", "/no/such/model"]));
  await t.step("a file", () => refused("is a JSON file, but the folder of", ["--model", join(ROOT, "deno.json")]));
  for (const [what, message, edit] of cases) {
    await t.step(what, () =>
      inTempDir(async (dir) => {
        const model = await BrokenModel.make(join(dir, "model"));
        await edit(model);
        await refused(message, ["--model", model.path, ...QUICK]);
      }));
  }
});

Deno.test("what is asked for cannot be had", async (t) => {
  const step = (what: string, message: string, args: readonly string[], prompt?: string[]) =>
    t.step(what, () => refused(message, args, prompt));
  await step(
    "frames",
    "--frames 30 does not fit: it must be a multiple of 4 plus 1; the nearest that fit are 29 and 33",
    [
      "--frames",
      "30",
    ],
  );
  await step("size", "--size 100x90 does not fit: both must be multiples of 16; the nearest that fits is 96x96", [
    "--size",
    "100x90",
  ]);
  await step("an unknown option", '--stpes is not an option of "tilereel generate": did you mean --steps?', [
    "--stpes",
    "3",
  ]);
  await step("steps", "--steps must be a whole number from 1 to 1000", ["--steps", "1001"]);
  await step("an amount of memory", '--memory must be an amount with its unit, as in 2GiB or 512MiB, not "2"', [
    "--memory",
    "2",
  ]);
  await step("no prompt", "no prompt", [], []);
  await step("an empty prompt", "the prompt is empty", [], [""]);
  await step("quality of a GIF", "--quality has no effect if no MP4 is written: leave it out", [
    "--quality=50",
    "--out=x.gif",
  ]);
  await step("an adapter", 'no GPU adapter fits "Voodoo 2": this machine has', ["--gpu", "Voodoo 2"]);
  await step(
    "start noise of another shape",
    "the start noise has shape [1, 16, 8, 16, 16], but 32x32 and 5 frames need",
    [
      "--latents",
      PIPELINE_FIXTURE,
      ...QUICK,
    ],
  );
  await step(
    "start noise that is none",
    "deno.json is a JSON file, but a safetensors file with start noise was expected",
    [
      "--latents",
      join(ROOT, "deno.json"),
    ],
  );
  await step("no start noise", "/no/noise does not exist; a safetensors file with start noise was expected", [
    "--latents",
    "/no/noise",
  ]);
  await step("a name that moves the cursor", "/no/a\\u001b[2J does not exist", ["--latents", "/no/a\x1b[2J"]);
  await step("no ONNX file", "/no/encoder.onnx does not exist", ["--text-encoder", "/no/encoder.onnx", ...QUICK]);
  await step("an ONNX file that is none", "deno.json is a JSON file, but an ONNX model was expected", [
    "--text-encoder",
    join(ROOT, "deno.json"),
    ...QUICK,
  ]);
});

Deno.test("prompts files that cannot be used", async (t) => {
  for (
    const [name, content, message] of [
      [
        "p.jsonl",
        '{"prompt": "a"}\n{"prompt": "b", "seed": }\n',
        "p.jsonl line 2 is not a JSON object: write one per line",
      ],
      ["p.jsonl", '{"prompt": "a", "frmes": 5}\n', 'p.jsonl line 1: unknown key "frmes": did you mean "frames"?'],
      ["p.txt", 'a\n{"prompt": "b", "size": "20x20"}\n', 'p.txt line 2: "size" 20x20 does not fit'],
      ["p.txt", "# nothing\n", "p.txt has no prompts"],
    ] as const
  ) {
    await t.step(message, () =>
      inTempDir(async (dir) => {
        await Deno.writeTextFile(join(dir, name), content);
        await refused(message, ["--prompts", join(dir, name)], []);
      }));
  }
  await t.step("no file", () => refused("--prompts /no/file cannot be read", ["--prompts", "/no/file"], []));
  await t.step(
    "a prompt in the place of the file",
    () => refused(`a… cannot be read: that name is too long (a prompt itself`, ["--prompts", "a".repeat(400)], []),
  );
});

Deno.test("embeddings files that cannot be used", () =>
  inTempDir(async (dir) => {
    const file = join(dir, "e.safetensors");
    const tensor = (...shape: number[]) => ({
      dtype: "F32" as const,
      shape,
      data: new Float32Array(shape.reduce((a, b) => a * b)),
    });
    const rejects = async (
      message: string,
      tensors: Record<string, ReturnType<typeof tensor>>,
      args: string[] = [],
    ) => {
      await writeSafetensors(file, tensors);
      await refused(message, ["--embeddings", file, ...QUICK, ...args]);
    };
    await rejects('has no tensor "prompt_embeds"', { embeds: tensor(4, 128) });
    await rejects('"prompt_embeds" has the shape [2, 4, 128], but', { prompt_embeds: tensor(2, 4, 128) });
    await rejects('"negative_prompt_embeds" has the shape [3, 128], but', {
      prompt_embeds: tensor(4, 128),
      negative_prompt_embeds: tensor(3, 128),
    });
    await rejects("have 64 channels, but the transformer takes 128", { prompt_embeds: tensor(8, 64) });
    await rejects("embeddings of the negative prompt are needed too", { prompt_embeds: tensor(4, 128) }, [
      "--guidance",
      "3",
    ]);
    await rejects("--negative cannot be used with --embeddings", { prompt_embeds: tensor(4, 128) }, [
      "--negative",
      "x",
    ]);
  }));

Deno.test("too little memory: what was asked, and what there is", async (t) => {
  await t.step("a limit that the model does not fit", async () => {
    await refused("does not fit a limit of 10.0 MiB of GPU memory while it is loaded: it fits with a limit of", [
      "--memory",
      "10MiB",
      ...QUICK,
    ]);
  });
  await t.step("a limit that the model fits and the clip does not", async () => {
    await refused(
      "256x256 with 5 frames does not fit a limit of 40.0 MiB of GPU memory while it is decoded: it fits at",
      [
        "--memory",
        "40MiB",
        ...QUICK,
        "--size",
        "256x256",
      ],
    );
  });
  await t.step("noise beyond what the adapter allows", async () => {
    await refused("too little memory: the start noise needs one buffer of 596 GiB, this adapter allows", [
      "--size",
      "800000x800000",
      "--frames",
      "1",
    ]);
  });
  const { adapters } = JSON.parse((await tilereel(["info", "--json"])).out);
  const limit = adapters[0].limits.maxStorageBufferBindingSize;
  // A side of so many pixels makes one frame's tokens, with 256 channels in f32, just not fit.
  const side = 16 * Math.ceil(Math.sqrt((limit + 1) / (256 * 4)));
  await t.step({
    name: "activations beyond what the adapter allows",
    ignore: side > 16 * 1024, // Beyond this, positions run out before memory does.
    fn: () =>
      refused("does not fit this adapter while it is denoised: it fits", [
        "--size",
        `${side}x${side}`,
        "--frames",
        "1",
      ]),
  });
});

Deno.test("the device is lost in the middle", async (t) => {
  for (const stage of ["load transformer", "load vae", "encode prompt", "denoise", "decode"]) {
    await t.step(`in the stage "${stage}"`, async () => {
      const gpu = await openGpu();
      const onProgress = (progress: { stage: string }) => {
        if (progress.stage === stage) gpu.device.destroy();
      };
      await assertRejects(
        async () => {
          const pipeline = await VideoPipeline.load(MODEL, { gpu, onProgress });
          await pipeline.generate({ prompt: "a", width: 32, height: 32, frames: 5, steps: 2, guidance: 1, onProgress });
        },
        TilereelError,
        "the GPU was lost while working",
      );
      gpu.close();
    });
  }
  await t.step("between two steps", async () => {
    const gpu = await openGpu();
    const pipeline = await VideoPipeline.load(MODEL, { gpu });
    let steps = 0;
    await assertRejects(
      () =>
        pipeline.generate({
          prompt: "a",
          width: 32,
          height: 32,
          frames: 5,
          steps: 3,
          onStep: () => {
            steps++;
            gpu.device.destroy();
          },
        }),
      TilereelError,
      "the GPU was lost while working",
    );
    assertEquals(steps, 1);
    gpu.close();
  });
  await t.step("while numbers are waited for", async () => {
    const gpu = await openGpu();
    const finish = gpu.finish.bind(gpu);
    gpu.finish = () => {
      const finished = finish();
      gpu.device.destroy();
      return finished;
    };
    const numbers = gpu.upload(new Float32Array(8), [8]);
    await assertRejects(() => gpu.read(numbers), TilereelError, "the GPU was lost while working");
    gpu.close();
  });
  // Anywhere at all: while weights go up, kernels are made, results come back.
  for (const submissions of [1, 20, 200, 500]) {
    await t.step(`after batch ${submissions} of work, on the command line`, () =>
      inTempDir(async (dir) => {
        const args = [String(submissions), "generate", "a", "--quiet", "--out", join(dir, "x.mp4"), "--size", "32x32"];
        assertRefused(
          await execute(Deno.execPath(), program("tests/lose_device.ts", [...args, "--steps", "1000"])),
          "the GPU was lost while working",
        );
        assertEquals(listFiles(dir), []);
      }));
  }
});

Deno.test("no adapter at all: one sentence on what to install", async () => {
  const none = { env: { DENO_WEBGPU_BACKEND: Deno.build.os === "windows" ? "metal" : "dx12" } };
  await inTempDir(async (dir) => {
    assertRefused(
      await tilereel(["generate", "a", "--out", join(dir, "x.mp4")], none),
      "no WebGPU adapter was found: install a Vulkan driver",
    );
    assertEquals(listFiles(dir), []);
  });
  assertStringIncludes((await tilereel(["info"], none)).out, "No WebGPU adapter: install");
  assertEquals(JSON.parse((await tilereel(["info", "--json"], none)).out), { adapters: [] });
});

Deno.test("places that cannot be written", async (t) => {
  await inTempDir(async (dir) => {
    const file = join(dir, "file");
    await Deno.writeTextFile(file, "");
    const place = (what: string, out: string, message: string, ignore = false) =>
      t.step({
        name: what,
        ignore,
        fn: async () => {
          assertRefused(await tilereel(["generate", "a", "--quiet", ...QUICK, "--out", out]), message);
          assertEquals(listFiles(dir), ["file"]);
        },
      });
    await place("a file on the way", join(file, "x.mp4"), "a part of that path is a file, not a folder");
    await place("a folder of that name", `${dir}/`, "exists and is not empty");
    await place("an ending that says nothing", join(dir, "x.webm"), "does not say what to write");
    await place("a name that is too long", join(dir, `${"x".repeat(300)}.mp4`), "that name is too long");
    await place("a new folder with a name that is too long", join(dir, "new", `${"x".repeat(300)}.mp4`), "too long");
    await place("nowhere", "/proc/none/x.mp4", "cannot write /proc/none/x.mp4", Deno.build.os !== "linux");
  });
});

/**
 * Runs `generate` into a folder that has a disk of its own, mounted with `mountOptions`; it lists on the standard
 * output what is left there. Where nothing can be mounted, files are kept from growing beyond 4 KiB instead.
 */
async function onDisk(dir: string, mountOptions: string | undefined, args: readonly string[]) {
  const prompt = "a white cross spinning on a checkered gray background"; // too varied for an MP4 of 4 KiB
  const options = ["--seed", "1", "--quiet", ...args];
  const generate = [Deno.execPath(), ...program("cli/main.ts", ["generate", prompt, ...options])];
  const run = `"$@"; code=$?; ls -A "$DISK"; exit $code`;
  const [shell, script] = mountOptions === undefined ? [["sh"], `trap '' XFSZ; ulimit -f 8; ${run}`] : [
    ["unshare", "--map-root-user", "--mount", "sh"],
    `mount -t tmpfs -o ${mountOptions} none "$DISK" && { ${run}; }`,
  ];
  const [command, ...rest] = [...shell, "-c", script, "sh", ...generate];
  return await execute(command!, rest, { env: { DISK: dir } });
}

/** Whether disks may be mounted here; containers often forbid it. */
async function mayMount(): Promise<boolean> {
  if (Deno.build.os !== "linux") return false;
  const args = ["--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs none /mnt"];
  return await execute("unshare", args).then(({ code }) => code === 0, () => false);
}

Deno.test({
  name: "a full disk",
  ignore: Deno.build.os === "windows",
  fn: async (t) => {
    const mount = await mayMount();
    const clip = ["--size", "96x96", "--frames", "9", "--steps", "1", "--guidance", "1"];
    for (const name of ["x.mp4", "x.gif", "x.png", "frames/"]) {
      await t.step(
        `${name}, ${mount ? "on a disk of 4 KiB" : "in files of at most 4 KiB"}`,
        () =>
          inTempDir(async (dir) => {
            const outcome = await onDisk(dir, mount ? "size=4k" : undefined, [
              "--out",
              join(dir, name),
              ...clip,
            ]);
            assertRefused(outcome, mount ? "the disk is full" : "larger than is allowed there");
          }),
      );
    }
    await t.step({
      name: "a disk that is read-only",
      ignore: !mount,
      fn: () =>
        inTempDir(async (dir) => {
          assertRefused(await onDisk(dir, "ro", ["--out", join(dir, "x.mp4"), ...clip]), "that disk is read-only");
        }),
    });
  },
});

Deno.test({
  name: "ended from outside in the middle of a batch: what is done stays, nothing half-written remains",
  ignore: Deno.build.os === "windows",
  fn: async (t) => {
    for (const [signal, status] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
      await t.step(signal, () =>
        inTempDir(async (dir) => {
          const prompts = join(dir, "p.txt");
          await Deno.writeTextFile(prompts, 'a\n{"prompt": "b", "size": "64x64", "frames": 13, "steps": 1000}\n');
          const args = [
            "generate",
            "--prompts",
            prompts,
            "--out",
            join(dir, "clips"),
            "--json",
            ...QUICK,
            "--seed",
            "1",
          ];
          const process = new Deno.Command(Deno.execPath(), {
            args: program("cli/main.ts", args),
            stdin: "null",
            stdout: "piped",
            stderr: "piped",
          }).spawn();
          let err = "";
          const errors = (async () => {
            for await (const text of process.stderr.pipeThrough(new TextDecoderStream())) err += text;
          })();
          // The first clip is done when its line comes; then the second is being worked on.
          const reader = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
          assertStringIncludes((await reader.read()).value ?? "", "0001-a-1.mp4");
          let ended = false;
          process.status.then(() => ended = true);
          while (!err.includes("denoise") && !ended) await new Promise((resolve) => setTimeout(resolve, 20));
          assert(!ended, `it ended by itself: ${err}`);
          process.kill(signal);
          const { code } = await process.status;
          await errors;
          assertEquals((await reader.read()).done, true);
          assertEquals(code, status);
          assert(!/error|bug|\bat /i.test(err), err);
          assertStringIncludes(err, "Stopped: 1 of 2 clips is done. Continue with: tilereel generate --prompts ");
          assertEquals(listFiles(join(dir, "clips")), ["0001-a-1.mp4"]);
        }));
    }
  },
});

Deno.test("numbers that are not finite make no clip", async (t) => {
  await inTempDir(async (dir) => {
    const latents = join(dir, "latents.safetensors"), numbers = new Float32Array(16 * 2 * 4 * 4);
    const write = (value: number) =>
      writeSafetensors(latents, {
        latents: { dtype: "F32", shape: [1, 16, 2, 4, 4], data: numbers.fill(value, 5, 6) },
      });
    await t.step("in noise that is given", async () => {
      await write(NaN);
      await refused(`${latents}: "latents" has numbers that are not finite`, [...QUICK, "--latents", latents]);
    });
    await t.step("after denoising", async () => {
      await refused("denoising ended in nothing but numbers that are not finite", [...QUICK, "--guidance", "1e300"]);
    });
    await t.step("of one of many, which keeps none of the others away", async () => {
      const prompts = join(dir, "p.jsonl"), out = join(dir, "clips");
      await Deno.writeTextFile(prompts, '{"prompt": "a", "guidance": 1e300}\n{"prompt": "b"}\n');
      const outcome = await tilereel([
        "generate",
        "--prompts",
        prompts,
        "--quiet",
        ...QUICK,
        "--seed",
        "1",
        "--out",
        out,
      ]);
      assertRefused(outcome, `${join(out, "0001-a-1.mp4")}: denoising ended in`);
      assertEquals(listFiles(out), ["0002-b-1.mp4"]);
    });
    await t.step("after decoding", async () => {
      const model = await BrokenModel.make(join(dir, "model"));
      // All bits set is NaN in every format.
      await model.bytes(VAE, "decoder.conv_in.bias", (bytes) => void bytes.fill(0xff));
      await refused("decoding gave samples that are no numbers", [...QUICK, "--model", model.path]);
    });
  });
});

Deno.test("a profile does not take the place of the clip, nor of a folder", () =>
  inTempDir(async (dir) => {
    const clip = join(dir, "x.mp4");
    await refused("would replace the clip", [...QUICK, "--out", clip, "--profile", `${dir}/./x.mp4`]);
    await Deno.writeTextFile(clip, "an older one");
    await Deno.symlink("x.mp4", join(dir, "link.json"));
    await refused("would replace the clip", [...QUICK, "--out", clip, "--profile", join(dir, "link.json")]);
    await Promise.all([clip, join(dir, "link.json")].map((path) => Deno.remove(path)));
    await refused("that is a folder, where a file would be written", [...QUICK, "--profile", dir]);
    assertEquals(listFiles(dir), []);
  }));

Deno.test("a full disk behind the standard output is no bug", { ignore: Deno.build.os !== "linux" }, async () => {
  const command = [Deno.execPath(), ...program("cli/main.ts", ["--help"])].map((word) => `'${word}'`).join(" ");
  const { code, err } = await execute("sh", ["-c", `${command} > /dev/full`]);
  assertEquals([code, err.includes("the disk is full"), err.includes("bug")], [1, true, false], err);
});

Deno.test("a folder to run in that does not exist", async () => {
  const outcome = await tilereel(["info"], { env: { TILEREEL_CWD: "/nonexistent" } });
  assertRefused(
    outcome,
    'TILEREEL_CWD names "/nonexistent", which cannot be entered (there is no such file or folder)',
  );
});
