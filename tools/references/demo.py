"""tokens.json and demo_*: the parts of the demo model, and its whole pipeline, by diffusers and transformers."""
import copy
import json
import os

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from common import DEVICE, MAX_SEQUENCE_LENGTH

TEXTS = [
    "a red circle moving right on a black background",
    "a big yellow square spinning on a navy background",
    "A Small GREEN triangle bouncing, and a blue ring moving left on a gray background!",
    "two zebras  dancing\nin the rain",
    "",
]
STEPS = 8
GUIDANCE_SCALE = 4.0
LATENTS = (16, 8, 16, 16)
#: For software adapters, which take minutes for the others in f16.
SMALL_LATENTS = (16, 3, 8, 8)


def tokens(references):
    """The tokenizer's ids for the texts as they stand."""
    tokenizer = references.pipeline.tokenizer
    rows = [{"text": text, "ids": tokenizer(text).input_ids} for text in TEXTS]
    with open(references.path("tokens.json"), "w") as file:
        json.dump(rows, file, indent=1)


def text_encoder(references):
    """Embeddings as the pipeline makes them: cleaned prompts, zeros past a prompt's end. Returns them."""
    embeds, _ = references.pipeline.encode_prompt(
        TEXTS, negative_prompt=[""] * len(TEXTS), max_sequence_length=MAX_SEQUENCE_LENGTH, device=DEVICE,
    )
    metadata = {"texts": TEXTS, "max_sequence_length": MAX_SEQUENCE_LENGTH}
    references.save("demo_text_encoder", {"prompt_embeds": embeds}, metadata)
    return embeds


@torch.no_grad()
def transformer(references, embeds):
    """One forward pass over a batch of two, each with a timestep of its own."""
    inputs = {
        "hidden_states": references.randn(2, 2, *LATENTS).to(DEVICE),
        "timestep": torch.tensor([903.0, 247.0], device=DEVICE),
        "encoder_hidden_states": embeds[:2],
    }
    output = references.pipeline.transformer(**inputs, return_dict=False)[0]
    references.save("demo_transformer", {**inputs, "output": output})


@torch.no_grad()
def few_steps(references, embeds):
    """A forward pass with the demo's LoRA merged into the weights, which diffusers needs PEFT for."""
    lora = load_file(os.path.join(references.model, "few_steps.safetensors"))
    transformer = copy.deepcopy(references.pipeline.transformer)
    for down in [name for name in lora if name.endswith(".lora_A.weight")]:
        layer = transformer.get_submodule(down.removeprefix("transformer.").removesuffix(".lora_A.weight"))
        up = lora[down.replace("lora_A", "lora_B")]
        # Rounded to the format of the file, as tilereel rounds sums. Sums in float32 would round 1 in 70,000 otherwise.
        layer.weight.copy_((layer.weight.double() + (up.double() @ lora[down].double()).to(DEVICE)).float().bfloat16())
    inputs = {
        "hidden_states": references.randn(7, 1, *SMALL_LATENTS).to(DEVICE),
        "timestep": torch.tensor([750.0], device=DEVICE),
        "encoder_hidden_states": embeds[:1],
    }
    output = transformer(**inputs, return_dict=False)[0]
    references.save("demo_few_steps", {**inputs, "output": output})


@torch.no_grad()
def vae(references):
    """Decoding of latents, encoding of a smooth clip of 9 frames."""
    autoencoder = references.pipeline.vae
    latents = references.randn(3, 1, 16, 3, 8, 8).to(DEVICE)
    coarse = references.randn(4, 1, 3, 3, 8, 8)
    clip = torch.tanh(F.interpolate(coarse, size=(9, 64, 64), mode="trilinear")).to(DEVICE)
    posterior = autoencoder.encode(clip).latent_dist
    decoded = autoencoder.decode(latents).sample
    tensors = {"latents": latents, "decoded": decoded, "clip": clip, "mean": posterior.mean, "logvar": posterior.logvar}
    references.save("demo_vae", tensors)


def pipeline(references, name="demo_pipeline", shape=LATENTS, offset=5):
    """From latents to a clip, with the latents after every step."""
    latents = references.randn(offset, 1, *shape)
    trace = {}

    def keep(_pipeline, step, _timestep, state):
        trace[f"latents.{step}"] = state["latents"].clone()
        return state

    frames = references.pipeline(
        prompt=TEXTS[0], negative_prompt="", height=8 * shape[2], width=8 * shape[3], num_frames=4 * shape[1] - 3,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE_SCALE, max_sequence_length=MAX_SEQUENCE_LENGTH, latents=latents.clone().to(DEVICE),
        output_type="np", callback_on_step_end=keep,
    ).frames[0]
    video = torch.from_numpy((frames * 255).round().astype("uint8"))
    metadata = {
        "prompt": TEXTS[0],
        "steps": STEPS,
        "guidance_scale": GUIDANCE_SCALE,
        "max_sequence_length": MAX_SEQUENCE_LENGTH,
    }
    references.save(name, {"latents.init": latents, **trace, "video": video}, metadata)


def make(references):
    tokens(references)
    embeds = text_encoder(references)
    transformer(references, embeds)
    few_steps(references, embeds)
    vae(references)
    pipeline(references)
    pipeline(references, "demo_pipeline_small", SMALL_LATENTS, 6)
