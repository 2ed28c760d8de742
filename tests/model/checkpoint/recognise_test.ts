/** Files and folders of the wrong kind, as people have them: each is answered by what it is. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { dirname, join } from "node:path";
import { quoted, TilereelError } from "../../../gpu/common/errors.ts";
import { openModelFolder } from "../../../model/checkpoint/model_folder.ts";
import { recogniseBytes, recogniseFile } from "../../../model/checkpoint/recognise.ts";
import { expectTensor, openSafetensors } from "../../../model/checkpoint/safetensors.ts";
import { writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import { loadTokenizer } from "../../../model/tokenizer/tokenizer.ts";
import { loadVeda } from "../../../model/veda/veda_file.ts";
import { loadRouter } from "../../../model/vorta/router_file.ts";
import { BrokenModel } from "../../broken_model.ts";
import { assertRefused, inTempDir, MODEL, ROOT, tilereel } from "../../process.ts";
import { ggufBytes } from "./gguf_bytes.ts";

const LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4665a2f3bc6e\nsize 5676070424\n";
const LOGIN = '\n<!DOCTYPE html>\n<html class="x"><head><title>Log in – Hugging\nFace</title></head>';
const DOWNLOAD_HUNYUAN = 'get one with "tilereel download hunyuanvideo-community/HunyuanVideo"';
const DOWNLOAD = 'get one with "tilereel download Wan-AI/Wan2.1-T2V-1.3B-Diffusers"';
const DOWNLOAD_14B = 'get one with "tilereel download Wan-AI/Wan2.1-T2V-14B-Diffusers"';

const bytes = (...parts: (string | readonly number[])[]) =>
  new Uint8Array(parts.flatMap((part) => typeof part === "string" ? [...new TextEncoder().encode(part)] : [...part]));
const u64 = (value: number) => [...new Uint8Array(BigUint64Array.of(BigInt(value)).buffer)];
const gguf = (architecture: string) =>
  bytes(
    "GGUF",
    [3, 0, 0, 0],
    u64(1),
    u64(1),
    u64(20),
    "general.architecture",
    [8, 0, 0, 0],
    u64(architecture.length),
    architecture,
  );
/** As PyTorch's files begin, and other zip archives. */
const zip = (name: string) => bytes("PK\x03\x04", Array(22).fill(0), [name.length, 0, 0, 0], name);

/** Tensors of which only names and first shapes matter. */
async function tensors(path: string, shapes: Record<string, readonly number[]>, int8 = false): Promise<void> {
  await writeSafetensors(
    path,
    Object.fromEntries(
      Object.entries(shapes).map(([name, shape]) => {
        const count = shape.reduce((a, b) => a * b, 1);
        return [
          name,
          int8
            ? { dtype: "I8" as const, shape, data: new Uint8Array(count) }
            : { dtype: "F16" as const, shape, data: new Uint8Array(2 * count) },
        ];
      }),
    ),
  );
}

Deno.test("files are told apart by their first bytes", () => {
  const cases: [Uint8Array, string, string][] = [
    [bytes(u64(2), "{}"), "safetensors", "a safetensors file"],
    [gguf("wan"), "gguf", 'a GGUF file (of architecture "wan")'],
    [bytes("GGUF", [3, 0, 0, 0]), "gguf", "a GGUF file"],
    [bytes("GGUF", Array(20).fill(255), Array(30).fill(255)), "gguf", "a GGUF file"],
    [bytes(LFS), "lfs", "a Git LFS pointer, which only stands for the file"],
    [bytes(LOGIN), "html", 'a web page ("Log in – Hugging\\nFace") that was saved under this name'],
    [bytes("<html>"), "html", "a web page that was saved under this name"],
    [bytes('<?xml version="1.0"?><!-- a --> <html>'), "html", "a web page that was saved under this name"],
    [bytes("Entry not found"), "text", 'a text file that begins "Entry not found"'],
    [bytes(`${"é".repeat(3000)}`).subarray(0, 4095), "unknown", "of no kind that tilereel knows"],
    [bytes(`a${"é".repeat(3000)}`).subarray(0, 4096), "text", `a text file that begins "a${"é".repeat(58)}…"`],
    [bytes(' {"error": 1}'), "json", "a JSON file"],
    [
      zip("archive/data.pkl"),
      "torch zip",
      "a PyTorch file (.pt, .pth, .ckpt or .bin)",
    ],
    [zip("notes.txt"), "archive", "a zip archive"],
    [
      bytes([0x80, 2], "}q\0"),
      "pickle",
      "a Python pickle (.bin, .ckpt, .pt or .pth), which may run code when it is loaded and is not read",
    ],
    [bytes([0x1f, 0x8b, 8]), "archive", "a gzip archive"],
    [bytes("\x89PNG".replace("\x89", ""), []), "text", 'a text file that begins "PNG"'],
    [bytes([0x89], "PNG\r\n"), "media", "a PNG picture"],
    [bytes([0, 0, 0, 32], "ftypisom"), "media", "an MP4 video"],
    [bytes("GIF89a"), "media", "a GIF"],
    [bytes([8, 8, 0x12, 7], "pytorch"), "onnx", "an ONNX model"],
    [new Uint8Array(4096), "zeros", "only zeros at its beginning, like an unfinished download"],
    [new Uint8Array(0), "empty", "empty"],
    [bytes([1, 2, 3]), "unknown", "of no kind that tilereel knows"],
  ];
  for (const [start, kind, is] of cases) {
    const recognised = recogniseBytes(start);
    assertEquals([recognised.kind, recognised.is], [kind, is]);
  }
});

Deno.test("real files are recognised, and no more than their beginning is read", async () => {
  for (
    const [file, kind] of [
      ["model/demo/vae/diffusion_pytorch_model.safetensors", "safetensors"],
      ["model/demo/text_encoder/model.onnx", "onnx"],
      ["model/demo/tokenizer/tokenizer.json", "json"],
      ["tests/fixtures/router/float32.pt", "torch zip"],
      ["tests/fixtures/router/before_1.6.pt", "pickle"],
      ["docs/demo_128.jpg", "media"],
    ] as const
  ) assertEquals((await recogniseFile(join(ROOT, file))).kind, kind, file);
});

Deno.test("foreign text in messages is quoted, cut, and moves no cursor", () => {
  assertEquals(quoted('a "b"\n\x1b[2J\x9b\u202e'), '"a \\"b\\"\\n\\u001b[2J\\u009b\\u202e"');
  assertEquals(quoted("x".repeat(100)).length, 62);
  assertEquals(quoted("\ud800"), '"\ufffd"');
  assertEquals(
    new TilereelError("a\x1b[31m\n.mp4 is “nicht” schön").message,
    "a\\u001b[31m\\u000a.mp4 is “nicht” schön",
  );
});

/** Loading `path` must be refused, with one sentence of these parts. */
async function refuses(load: (path: string) => Promise<unknown>, path: string, ...parts: string[]): Promise<void> {
  const error: unknown = await load(path).then(() => "nothing was refused", (error) => error);
  assert(error instanceof TilereelError, `${path}: ${error}`);
  for (const part of parts) assertStringIncludes(error.message, part);
  const words = error.message.replaceAll(dirname(path), "");
  assert(!/\p{Cc}|\. /u.test(words), words);
}

Deno.test("in the place of weights, configs, tokenizers, routers, tiles", () =>
  inTempDir(async (dir) => {
    const path = join(dir, "x.safetensors");
    for (
      const [content, ...parts] of [
        [bytes(LFS), "x.safetensors is a Git LFS pointer", 'was expected; run "git lfs pull"'],
        [bytes("{}"), "x.safetensors is a JSON file, but", "was expected; name another file"],
        [bytes(LOGIN), "is a web page (", 'download the file itself, after "hf auth login"'],
        [bytes("Entry not found"), 'is a text file that begins "Entry not found", but', "download it again"],
        [gguf("wan"), "is a GGUF file", "name another file"],
        [new Uint8Array(0), "x.safetensors is empty, but"],
        [new Uint8Array(9999), "is only zeros at its beginning"],
      ] as const
    ) {
      await Deno.writeFile(path, content);
      await refuses((path) => openSafetensors(path), path, "but a safetensors file was expected", ...parts);
      await refuses(loadRouter, path, "but a router (safetensors, or router.pt as torch.save writes it) was", ...parts);
      await refuses(loadVeda, path, "but a safetensors file with tiles was expected", ...parts);
    }
    await refuses(loadRouter, MODEL, "is a folder, but a router (safetensors");

    await tensors(path, { a: [2] }, true);
    await refuses(
      async (path) => {
        using source = await openSafetensors(path);
        expectTensor(source, "a", [2]);
      },
      path,
      'tensor "a" in',
      "is stored as I8, but F32, F16, BF16, F64, F8_E4M3 or F8_E5M2 was expected; use another version of the model",
    );

    await tensors(path, { "blocks.0.attn1.to_q.weight": [1], "condition_embedder.x": [1] });
    await refuses(loadRouter, path, "holds no router, but a Wan transformer in the diffusers layout; tensors such as");
    await refuses(loadVeda, path, "holds no tiles, but a Wan transformer in the diffusers layout; a file made by");
    await refuses(loadVeda, join(MODEL, "router.safetensors"), "holds no tiles, but a router of VORTA;");
    await refuses(loadRouter, join(MODEL, "tiles.safetensors"), "holds no router, but tiles of Veda;");

    const model = await BrokenModel.make(join(dir, "model"));
    await model.replace("tokenizer/tokenizer.json", () => bytes(LFS));
    await model.replace("model_index.json", () => bytes(LOGIN));
    await refuses(
      loadTokenizer,
      join(model.path, "tokenizer"),
      "tokenizer.json is a Git LFS pointer",
      "a JSON file was",
    );
    await model.remove("tokenizer/tokenizer.json");
    await Deno.writeFile(join(model.path, "tokenizer/spiece.model"), bytes(LFS));
    await refuses(loadTokenizer, join(model.path, "tokenizer"), "spiece.model is a Git LFS pointer", "git lfs pull");
    await refuses(openModelFolder, model.path, "model_index.json is a web page", "but a JSON file was expected");
  }));

Deno.test("a download that is not complete", () =>
  inTempDir(async (dir) => {
    const model = await BrokenModel.make(join(dir, "model")), vae = join(model.path, "vae");
    const weights = join(vae, "diffusion_pytorch_model.safetensors");
    const open = () => openCheckpoint(vae, "diffusion_pytorch_model");
    await Deno.writeTextFile(`${weights}.aria2`, "");
    await refuses(open, vae, "diffusion_pytorch_model.safetensors.aria2 is beside it; finish its download");
    await Deno.remove(weights);
    await refuses(open, vae, "holds no weights", "its download is not complete", ".aria2), so finish the download");
    await Deno.remove(`${weights}.aria2`);
    await refuses(open, vae, "holds no weights", "so copy or download it");

    // As "hf download --local-dir" leaves it.
    const cache = join(model.path, ".cache/huggingface/download/transformer");
    await Deno.mkdir(cache, { recursive: true });
    await Deno.writeTextFile(join(cache, "abc.incomplete"), "");
    await model.remove("transformer/diffusion_pytorch_model-00002-of-00003.safetensors");
    await refuses(
      (path) => openCheckpoint(path, "diffusion_pytorch_model"),
      join(model.path, "transformer"),
      "00002-of-00003.safetensors is missing",
      "its download is not complete",
      "abc.incomplete), so finish the download",
    );
    await Deno.mkdir(join(dir, "begun"));
    await Deno.writeTextFile(join(dir, "begun/model.safetensors.part"), "");
    await refuses(openModelFolder, join(dir, "begun"), "holds no model_index.json, and its download is not complete");
  }));

Deno.test("what is named in the place of a model's folder", () =>
  inTempDir(async (dir) => {
    const at = (name: string) => join(dir, name);
    const write = async (name: string, content: Uint8Array | string) => {
      await Deno.mkdir(dirname(at(name)), { recursive: true });
      await Deno.writeFile(at(name), typeof content === "string" ? bytes(content) : content);
    };
    const is = (name: string, ...parts: string[]) => refuses(openModelFolder, at(name), ...parts);
    const diffusers = "the folder of a video model in the diffusers layout";

    for (
      const [name, ...parts] of [
        [
          "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
          '"tilereel download Wan-AI/Wan2.1-T2V-1.3B-Diffusers"',
        ],
        [
          "https://huggingface.co/Wan-AI/Wan2.1-T2V-14B-Diffusers/tree/main",
          '"tilereel download Wan-AI/Wan2.1-T2V-14B-Diffusers',
        ],
        ["Wan2.1-T2V-14B", '"tilereel download Wan-AI/Wan2.1-T2V-14B-Diffusers"'],
        ["Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", '"tilereel download Wan-AI/Wan2.1-I2V-14B-480P-Diffusers"'],
        ["Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers", '"tilereel download Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers"'],
        ["Wan-AI/Wan2.2-S2V-14B", "only models of Wan and HunyuanVideo that make video of text or pictures", DOWNLOAD],
        ...["-I2V", "-1.5-Diffusers-480p_t2v"].map((kind) =>
          [
            `hunyuanvideo-community/HunyuanVideo${kind}`,
            "only models of Wan and HunyuanVideo that make video of text or pictures are supported",
            DOWNLOAD_HUNYUAN,
          ] as const
        ),
        ["tencent/HunyuanVideo", "is in its original layout", DOWNLOAD_HUNYUAN],
        ["Wan2.2-T2V-A14B", '"tilereel download Wan-AI/Wan2.2-T2V-A14B-Diffusers"'],
        [
          "hunyuanvideo-community/HunyuanVideo",
          '"tilereel download hunyuanvideo-community/HunyuanVideo"',
        ],
        ["city96/Wan2.1-T2V-14B-gguf", "GGUF files replace parts of a whole model", DOWNLOAD],
        [
          "someone/finetune",
          "someone/finetune does not exist; if it is",
          '"tilereel download someone/finetune"',
        ],
        ["/no/such/model", "/no/such/model does not exist; the folder of"],
        [`${dir}/model`, "model does not exist; the folder of"],
      ] as const
    ) await refuses(openModelFolder, name, ...parts);

    await tensors(at("t2v.safetensors"), {
      "model.diffusion_model.blocks.0.self_attn.q.weight": [1],
      "model.diffusion_model.patch_embedding.weight": [1536, 16, 1, 1, 1],
    });
    await is(
      "t2v.safetensors",
      "is a safetensors file with a Wan transformer in the original layout (text to video, 1.3B), as ComfyUI has it, but",
      DOWNLOAD,
    );
    await tensors(at("int8.safetensors"), {
      "blocks.0.self_attn.q.weight": [1],
      "patch_embedding.weight": [5120, 16, 1, 1, 1],
    }, true);
    await is(
      "int8.safetensors",
      "(text to video, 14B), as ComfyUI has it, in I8, which is not read",
      DOWNLOAD_14B,
    );
    for (
      const [shapes, what] of [
        [{ "blocks.0.self_attn.q.weight": [1], "patch_embedding.weight": [5120, 36, 1, 1, 1] }, "image to video, 14B"],
        [{ "blocks.0.self_attn.q.weight": [1], "patch_embedding.weight": [3072, 48, 1, 1, 1] }, "Wan 2.2 TI2V 5B"],
        [{ "blocks.0.self_attn.q.weight": [1], "img_emb.emb_pos": [1] }, "first and last frame to video"],
        [{ "blocks.0.self_attn.q.weight": [1], "vace_blocks.0.self_attn.q.weight": [1] }, "(VACE)"],
        [{ "diffusion_model.blocks.0.self_attn.q.lora_A.weight": [1] }, "with a LoRA, but the folder"],
        [{ "decoder.middle.0.residual.0.gamma": [1] }, "Wan's VAE in the original layout"],
        [{ "encoder.block.0.layer.0.SelfAttention.q.weight": [1] }, "a T5 text encoder"],
        [{ "txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.weight": [1] }, "a HunyuanVideo transformer"],
        [{ "model.diffusion_model.input_blocks.0.0.weight": [1] }, "a Stable Diffusion checkpoint"],
        [{ a: [1], b: [1] }, '2 tensors such as "a"'],
        [{}, "a safetensors file with nothing"],
      ] as [Record<string, number[]>, string][]
    ) {
      await tensors(at("other.safetensors"), shapes);
      await is("other.safetensors", what, `but ${diffusers} was expected`);
    }
    await write("x.gguf", ggufBytes({ "patch_embedding.weight": { shape: [1], type: 0, data: new Uint8Array(4) } }));
    await is(
      "x.gguf",
      'is a GGUF file (of architecture "wan") with the tensor "patch_embedding.weight" alone, but',
      DOWNLOAD,
    );
    await write("x.pth", zip("archive/data.pkl"));
    await is("x.pth", "is a damaged zip archive");
    await write("x.mp4", bytes([0, 0, 0, 32], "ftypisom"));
    await is("x.mp4", "is an MP4 video, but the folder of", DOWNLOAD);

    const model = await BrokenModel.make(at("model"));
    await is("model/model_index.json", `is a file of a model; name its folder, ${model.path}`);
    await is("model/vae/config.json", `is a file of a part of a model; name the model's folder, ${model.path}`);
    await is("model/transformer", `is a part of a model; name the model's folder, ${model.path}`);
    await is(".", `holds no model itself; name the one in it, ${dir}`);

    await write("cache/snapshots/abc/x", "");
    await is("cache", "is a folder of Hugging Face's cache; name the model in it,", "cache/snapshots/abc");
    await write("small/config.json", '{"_class_name": "WanModel", "model_type": "t2v", "dim": 1536}');
    await is("small", "is a model in Wan's original layout, but its transformer is missing", DOWNLOAD);
    await write("large/config.json", '{"_class_name": "WanModel", "model_type": "t2v", "dim": 5120}');
    await is("large", "original layout, but its transformer is missing", DOWNLOAD_14B);
    await write("i2v/config.json", '{"_class_name": "WanModel", "model_type": "i2v"}');
    await is("i2v", "original layout, but its transformer is missing", "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers");
    await write("vace/config.json", '{"_class_name": "WanModel", "model_type": "vace"}');
    await is("vace", 'original layout, and of a kind ("vace") that is not supported', DOWNLOAD);
    await write("5b/config.json", '{"_class_name": "WanModel", "model_type": "ti2v"}');
    await is("5b", "original layout, but its transformer is missing", "Wan-AI/Wan2.2-TI2V-5B-Diffusers");
    await write("tencent/hunyuan-video-t2v-720p/transformers/x.pt", "");
    await is("tencent", "is a model in HunyuanVideo's original layout, but", DOWNLOAD_HUNYUAN);
    await write("comfy/diffusion_models/x", "");
    await write("comfy/vae/x", "");
    await is("comfy", "is a folder of ComfyUI's models without a transformer of Wan or HunyuanVideo; get", DOWNLOAD);
    await write("bare/transformer/x", "");
    await write("bare/vae/x", "");
    await is("bare", "lacks model_index.json, which says what model it is; copy or download it again, whole");
    await write("part/config.json", '{"_class_name": "AutoencoderKLWan"}');
    await is("part", 'holds a part of a model ("AutoencoderKLWan") alone, but', DOWNLOAD);
    await write("weights/wan.gguf", "");
    await is("weights", "weights/wan.gguf is empty, but a safetensors or GGUF file was expected; copy or download it");
    await write("others/wan.pth", "");
    await is("others", "others/wan.pth is empty");
    await write("old/wan.ckpt", "");
    await is("old", 'holds "wan.ckpt" but no model_index.json', DOWNLOAD);
    await Deno.mkdir(at("empty"));
    await is("empty", "holds no model: a folder in the diffusers layout was expected", DOWNLOAD);
  }));

Deno.test("models of other kinds", () =>
  inTempDir(async (dir) => {
    for (
      const [keys, what] of [
        [{ _class_name: "WanVACEPipeline" }, "Wan VACE (WanVACEPipeline), but"],
        ...[{}, { transformer: ["diffusers", "HunyuanVideoTransformer3DModel"] }].map((part) =>
          [
            { _class_name: "HunyuanVideoImageToVideoPipeline", ...part },
            "HunyuanVideo image to video (Hunyuan",
          ] as const
        ),
        [{ _class_name: "NewPipeline\u001b" }, 'a "NewPipeline\\u001b", but'],
        [{ _class_name: null }, "of an unknown kind, because its _class_name is missing, but"],
      ] as [Record<string, unknown>, string][]
    ) {
      const model = await BrokenModel.make(await Deno.makeTempDir({ dir }));
      await model.set("model_index.json", keys);
      await refuses(
        openModelFolder,
        model.path,
        `model_index.json: this model is ${what}`,
        "only text or pictures to video",
        DOWNLOAD,
      );
    }
  }));

Deno.test("the command line answers so wherever a file or model is named", async (t) => {
  const shard = join(MODEL, "transformer/diffusion_pytorch_model-00001-of-00003.safetensors");
  const router = join(MODEL, "router.safetensors");
  const hub = [
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    'download it with "tilereel download Wan-AI/Wan2.1-T2V-1.3B-Diffusers',
  ] as const;
  for (
    const [args, message] of [
      [["generate", "a", "--model", hub[0]], hub[1]],
      [["info", hub[0]], hub[1]],
      [["generate", "a", "--model", router], "is a safetensors file with a router of VORTA, but the folder of"],
      [["generate", "a", "--router", shard], "holds no router, but a Wan transformer in the diffusers layout"],
      [["generate", "a", "--tiles", router], "holds no tiles, but a router of VORTA"],
      [["generate", "a", "--latents", router], "has a router of VORTA, but no tensor called"],
      [["generate", "a", "--embeddings", router], 'has no tensor "prompt_embeds", but a router of VORTA'],
      [
        ["generate", "a", "--text-encoder", shard, "--size", "32x32", "--frames", "5", "--steps", "1"],
        'diffusion_pytorch_model-00001-of-00003.safetensors holds no tensor "shared.weight", which this model needs',
      ],
      [["generate", "a", "--model", shard], "or name this file with --transformer, --vae or --text-encoder"],
      [["generate", "a", "--transformer", router], "is a file with a router of VORTA, but a transformer of Wan 2.1"],
    ] as const
  ) {
    await t.step(args.slice(0, 3).join(" "), () =>
      inTempDir(async (dir) => {
        const out = args[0] === "generate" ? ["--quiet", "--out", join(dir, "x.mp4")] : [];
        assertRefused(await tilereel([...args, ...out]), message);
      }));
  }
});
