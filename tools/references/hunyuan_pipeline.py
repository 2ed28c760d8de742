"""tiny_hunyuan_pipeline: a small HunyuanVideo with random weights as a whole folder, and a clip from its prompt to frames.

Numbers are drawn on the CPU, and the reference is best made on one (see hunyuan.py).
"""
import copy
import gzip
import json
import os

import torch
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from common import DEVICE
from diffusers import (
    AutoencoderKLHunyuanVideo, FlowMatchEulerDiscreteScheduler, HunyuanVideoPipeline, HunyuanVideoTransformer3DModel,
)
from hunyuan import stir

BPE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/fixtures/bpe")
TEXT_DIM, POOLED_DIM = 32, 24
PROMPT = "A red fox runs through deep snow under a pale sky, seen from above"
#: Five latent frames: more than diffusers decodes at once, so that its tiles in time are there, too.
LATENTS = (1, 16, 5, 6, 8)
STEPS = 3
GUIDANCE_SCALE = 6.0
#: More than a prompt usually has, since a small vocabulary makes far more than 95 tokens of the template.
MAX_SEQUENCE_LENGTH = 192
#: The classes of the files in hunyuanvideo-community/HunyuanVideo.
CLASSES = {
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "LlamaModel"],
    "text_encoder_2": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "LlamaTokenizerFast"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "transformer": ["diffusers", "HunyuanVideoTransformer3DModel"],
    "vae": ["diffusers", "AutoencoderKLHunyuanVideo"],
}
TOKENIZERS = {
    "tokenizer": ("llama", dict(
        bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>", pad_token="<|end_of_text|>", model_max_length=2048,
    )),
    "tokenizer_2": ("clip", dict(
        bos_token="<|startoftext|>", eos_token="<|endoftext|>", pad_token="<|endoftext|>", unk_token="<|endoftext|>",
        model_max_length=77,
    )),
}


def write_json(value, *path):
    with open(os.path.join(*path), "w") as file:
        json.dump(value, file, indent=2)


def make_tokenizer(folder, name):
    """Writes a tokenizer of tests/fixtures/bpe into the folder and reads it."""
    fixture, config = TOKENIZERS[name]
    place = os.path.join(folder, name)
    os.makedirs(place, exist_ok=True)
    with gzip.open(os.path.join(BPE, f"{fixture}.json.gz")) as file, open(f"{place}/tokenizer.json", "wb") as out:
        out.write(file.read())
    write_json({**config, "tokenizer_class": "PreTrainedTokenizerFast"}, place, "tokenizer_config.json")
    return PreTrainedTokenizerFast(tokenizer_file=f"{place}/tokenizer.json", **config)


def make_parts(references, folder):
    """The parts of the pipeline. Matrices and vectors are bfloat16 numbers, as they are in released files."""
    tokenizers = {name: make_tokenizer(folder, name) for name in TOKENIZERS}
    vocabulary = {name: len(tokenizer) for name, tokenizer in tokenizers.items()}
    clip = tokenizers["tokenizer_2"]
    references.seed_everything(0)
    models = {
        "transformer": HunyuanVideoTransformer3DModel(
            in_channels=16, out_channels=16, num_attention_heads=2, attention_head_dim=32, num_layers=1,
            num_single_layers=1, num_refiner_layers=1, mlp_ratio=2.0, patch_size=2, patch_size_t=1,
            text_embed_dim=TEXT_DIM, pooled_projection_dim=POOLED_DIM, rope_axes_dim=(8, 12, 12), guidance_embeds=True,
        ),
        "vae": AutoencoderKLHunyuanVideo(block_out_channels=(8, 8, 8, 16), layers_per_block=1, norm_num_groups=4),
        "text_encoder": LlamaModel(LlamaConfig(
            vocab_size=vocabulary["tokenizer"], hidden_size=TEXT_DIM, intermediate_size=64, num_hidden_layers=4,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512, rms_norm_eps=1e-5,
            rope_theta=500000.0,
        )),
        "text_encoder_2": CLIPTextModel(CLIPTextConfig(
            vocab_size=vocabulary["tokenizer_2"], hidden_size=POOLED_DIM, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=77, projection_dim=POOLED_DIM,
            bos_token_id=clip.bos_token_id, eos_token_id=clip.eos_token_id, pad_token_id=clip.pad_token_id,
        )),
    }
    for offset, (name, model) in enumerate(models.items()):
        for parameter in stir(model.eval(), references.generator(260 + offset)).parameters():
            parameter.data = parameter.bfloat16().float()
        # Not the model itself, whose buffers, such as RoPE's frequencies, must not be rounded.
        copy.deepcopy(model).bfloat16().save_pretrained(f"{folder}/{name}")
        model.to(DEVICE)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=7.0)
    scheduler.save_pretrained(f"{folder}/scheduler")
    index = {"_class_name": "HunyuanVideoPipeline", "_diffusers_version": "0.32.0.dev0", **CLASSES}
    write_json(index, folder, "model_index.json")
    return {**models, **tokenizers, "scheduler": scheduler}


@torch.no_grad()
def make(references):
    folder = references.path("tiny_hunyuan_pipeline")
    pipeline = HunyuanVideoPipeline(**make_parts(references, folder))
    pipeline.set_progress_bar_config(disable=True)
    embeds, pooled, mask = pipeline.encode_prompt(PROMPT, device=DEVICE, max_sequence_length=MAX_SEQUENCE_LENGTH)
    latents = references.randn(264, *LATENTS)
    trace = {}

    def keep(_pipeline, step, _timestep, state):
        trace[f"latents.{step}"] = state["latents"].clone()
        return state

    frames = pipeline(
        prompt=PROMPT, height=8 * LATENTS[3], width=8 * LATENTS[4], num_frames=4 * LATENTS[2] - 3,
        num_inference_steps=STEPS, guidance_scale=GUIDANCE_SCALE, max_sequence_length=MAX_SEQUENCE_LENGTH,
        latents=latents.clone().to(DEVICE), output_type="np", callback_on_step_end=keep,
    ).frames[0]
    video = torch.from_numpy((frames * 255).round().astype("uint8"))
    print("valid text tokens", int(mask.sum()), "of", mask.numel(), "video", video.float().mean(), video.float().std())
    tensors = {
        "latents.init": latents, "prompt_embeds": embeds, "prompt_attention_mask": mask.to(torch.int64),
        "pooled_prompt_embeds": pooled, **trace, "video": video,
    }
    references.save("tiny_hunyuan_pipeline/reference", tensors, {
        "prompt": PROMPT, "steps": STEPS, "guidance_scale": GUIDANCE_SCALE, "max_sequence_length": MAX_SEQUENCE_LENGTH,
    })
