"""Image to video with Wan: its parts with random weights and their inputs and outputs, and whole folders with clips.

tiny_clip_vision, tiny_wan_i2v, tiny_wan_flf, tiny_wan_ti2v and tiny_wan22_vae are parts. tiny_wan_*_pipeline are folders
without text encoders, with two pictures, embeddings, the latents after each step, and frames.
"""
import copy
import json
import os

import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from common import DEVICE
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanImageToVideoPipeline, WanTransformer3DModel
from hunyuan import stir

WAN = dict(
    num_attention_heads=2, attention_head_dim=32, ffn_dim=96, num_layers=2, text_dim=16, freq_dim=64, patch_size=(1, 2, 2),
    cross_attn_norm=True, qk_norm="rms_norm_across_heads", eps=1e-6, rope_max_seq_len=1024,
)
CLIP = dict(
    hidden_size=24, intermediate_size=80, num_hidden_layers=4, num_attention_heads=3, image_size=56, patch_size=14,
    hidden_act="gelu",
)
IMAGE = dict(in_channels=36, out_channels=16, image_dim=CLIP["hidden_size"], added_kv_proj_dim=64)
#: Of a picture: 4x4 patches, and one for all.
IMAGE_TOKENS = 17
VAE = dict(base_dim=8, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
VAE22 = dict(
    base_dim=4, decoder_base_dim=8, z_dim=48, dim_mult=[1, 2, 2, 1], num_res_blocks=1, is_residual=True, in_channels=12,
    out_channels=12, patch_size=2, scale_factor_spatial=16, scale_factor_temporal=4,
    latents_mean=[0.02 * i - 0.4 for i in range(48)], latents_std=[0.8 + 0.01 * i for i in range(48)],
)
#: WanTransformer3DModel splits the last 512 tokens off as text.
TEXT = 512
STEPS, FRAMES = 3, 9
PICTURE = (150, 100)
PROMPT = "a picture that moves"


def rounded(references, offset, model):
    """Random weights, which are bfloat16 numbers as in released files."""
    for parameter in stir(model.eval(), references.generator(offset)).parameters():
        parameter.data = parameter.bfloat16().float()
    return model


def write(references, name, model):
    # Not the model itself, whose buffers, such as RoPE's frequencies, must not be rounded.
    copy.deepcopy(model).bfloat16().save_pretrained(references.path(name))
    return model.to(DEVICE)


def make_parts(references):
    clip = write(references, "tiny_clip_vision", rounded(references, 600, CLIPVisionModel(CLIPVisionConfig(**CLIP))))
    pixels = references.randn(601, 1, 3, 56, 56)
    hidden = clip(pixels, output_hidden_states=True).hidden_states[-2]
    references.save("tiny_clip_vision/reference", {"pixel_values": pixels, "hidden_states.-2": hidden})

    cases = (("i2v", {**IMAGE}, 1), ("flf", {**IMAGE, "pos_embed_seq_len": 2 * IMAGE_TOKENS}, 2))
    for offset, (name, config, pictures) in enumerate(cases):
        offset = 610 + 10 * offset
        model = rounded(references, offset, WanTransformer3DModel(**WAN, **config))
        inputs = {
            "hidden_states": references.randn(offset + 1, 1, 36, 3, 8, 12), "timestep": torch.tensor([811.0]),
            "encoder_hidden_states": references.randn(offset + 2, 1, TEXT, WAN["text_dim"]),
            "encoder_hidden_states_image": references.randn(offset + 3, pictures, IMAGE_TOKENS, CLIP["hidden_size"]),
        }
        output = write(references, f"tiny_wan_{name}", model)(**inputs, return_dict=False)[0]
        references.save(f"tiny_wan_{name}/reference", {**inputs, "output": output})

    model = rounded(references, 630, WanTransformer3DModel(**WAN, in_channels=48, out_channels=48))
    steps = torch.full((1, 3 * 4 * 6), 711.0)
    steps[:, : 4 * 6] = 0.0
    inputs = {
        "hidden_states": references.randn(631, 1, 48, 3, 8, 12), "timestep": steps,
        "encoder_hidden_states": references.randn(632, 1, 19, WAN["text_dim"]),
    }
    output = write(references, "tiny_wan_ti2v", model)(**inputs, return_dict=False)[0]
    references.save("tiny_wan_ti2v/reference", {**inputs, "output": output})

    vae = write(references, "tiny_wan22_vae", rounded(references, 640, AutoencoderKLWan(**VAE22)))
    latents, clip = references.randn(641, 1, 48, 3, 2, 3), torch.tanh(references.randn(642, 1, 3, 9, 32, 48))
    post = vae.encode(clip).latent_dist
    references.save("tiny_wan22_vae/reference", {
        "latents": latents, "decoded": vae.decode(latents).sample, "clip": clip, "mean": post.mean, "logvar": post.logvar,
    })


def picture(references, offset):
    """A picture with soft and with sharp edges."""
    coarse = references.generator(offset)
    small = (torch.rand(6, 9, 3, generator=coarse) * 255).byte().numpy()
    image = Image.fromarray(small).resize(PICTURE, Image.Resampling.BICUBIC)
    image.paste((240, 40, 90), (30, 20, 70, 61))
    return image


def make_pipeline(references, name, offset, size, vae, transformers, pictures, **options):
    """A folder of a pipeline with its reference. Two transformers are those of high and of low noise."""
    folder = references.path(name)
    models = {"vae": AutoencoderKLWan(**vae)}
    for part, config in zip(("transformer", "transformer_2"), transformers):
        models[part] = WanTransformer3DModel(**{**WAN, "num_layers": 1}, **config)
    if "image_dim" in transformers[0]:
        models["image_encoder"] = CLIPVisionModel(CLIPVisionConfig(**CLIP))
    for i, (part, model) in enumerate(models.items()):
        write(references, f"{name}/{part}", rounded(references, offset + i, model))
    others = {}
    if "image_encoder" in models:
        others["image_processor"] = CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
        others["image_processor"].save_pretrained(f"{folder}/image_processor")
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    scheduler.save_pretrained(f"{folder}/scheduler")
    settings = {key: options.pop(key) for key in ("boundary_ratio", "expand_timesteps") if key in options}
    index = {
        "_class_name": "WanImageToVideoPipeline", "_diffusers_version": "0.40.0.dev0", "boundary_ratio": None, **settings,
        "scheduler": ["diffusers", "UniPCMultistepScheduler"], "tokenizer": [None, None], "text_encoder": [None, None],
        "transformer_2": [None, None], "image_encoder": [None, None], "image_processor": [None, None],
        **{part: ["diffusers", type(model).__name__] for part, model in models.items()},
    }
    if "image_encoder" in models:
        index["image_encoder"] = ["transformers", "CLIPVisionModel"]
        index["image_processor"] = ["transformers", "CLIPImageProcessor"]
    with open(f"{folder}/model_index.json", "w") as file:
        json.dump(index, file, indent=2)
    pipeline = WanImageToVideoPipeline(
        tokenizer=None, text_encoder=None, scheduler=scheduler, **models, **others, **settings,
    )
    pipeline.set_progress_bar_config(disable=True)
    given = [picture(references, offset + 10 + i) for i in range(pictures)]
    for name_of, image in zip(("first", "last"), given):
        image.save(f"{folder}/{name_of}.png")
    width, height = size
    scale = 16 if vae.get("patch_size") == 2 else 8
    latents = references.randn(offset + 5, 1, vae["z_dim"], (FRAMES - 1) // 4 + 1, height // scale, width // scale)
    embeds = {
        "prompt_embeds": references.randn(offset + 6, 1, TEXT, WAN["text_dim"]),
        "negative_prompt_embeds": references.randn(offset + 7, 1, TEXT, WAN["text_dim"]),
    }
    trace = {}

    def keep(_pipeline, step, _timestep, state):
        trace[f"latents.{step}"] = state["latents"].clone()
        return state

    frames = pipeline(
        image=given[0], last_image=given[1] if pictures > 1 else None, height=height, width=width, num_frames=FRAMES,
        num_inference_steps=STEPS, latents=latents.clone(), output_type="np", callback_on_step_end=keep, **embeds,
        **options,
    ).frames[0]
    video = torch.from_numpy((frames * 255).round().astype("uint8"))
    print(name, "video", video.float().mean(), video.float().std())
    references.save(f"{name}/reference", {"latents.init": latents, **embeds, **trace, "video": video}, {
        "prompt": PROMPT, "steps": STEPS, "max_sequence_length": TEXT, **options,
    })


@torch.no_grad()
def make(references):
    make_parts(references)
    a14b = dict(in_channels=36, out_channels=16)
    make_pipeline(references, "tiny_wan_i2v_pipeline", 650, (48, 32), VAE, [IMAGE], 1, guidance_scale=5.0)
    make_pipeline(
        references, "tiny_wan_a14b_pipeline", 690, (48, 32), VAE, [a14b, a14b], 2, boundary_ratio=0.9, guidance_scale=3.5,
        guidance_scale_2=2.5,
    )
    make_pipeline(
        references, "tiny_wan_ti2v_pipeline", 710, (96, 64), VAE22, [dict(in_channels=48, out_channels=48)], 1,
        expand_timesteps=True, guidance_scale=5.0,
    )
