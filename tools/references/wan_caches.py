"""tiny_cache and tiny_lora: small Wan transformers with random weights.

tiny_cache: ten calls under diffusers' FirstBlockCache and pyramid attention broadcast.
tiny_lora: one update in the layouts that people have, and the output after it was merged at 0.8.
"""
import torch
from common import DEVICE
from diffusers import WanTransformer3DModel
from diffusers.hooks import (
    FirstBlockCacheConfig, PyramidAttentionBroadcastConfig, apply_first_block_cache, apply_pyramid_attention_broadcast,
)

CONFIG = dict(
    patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=32, in_channels=16, out_channels=16, text_dim=40,
    freq_dim=256, ffn_dim=96, cross_attn_norm=True, qk_norm="rms_norm_across_heads", eps=1e-6, rope_max_seq_len=1024,
)
TIMES = [999.0, 960.0, 910.0, 850.0, 790.0, 700.0, 560.0, 390.0, 200.0, 60.0]
#: Wan's names of the layers that the update changes, by diffusers'.
LAYERS = {
    "attn1.to_q": "self_attn.q", "attn1.to_k": "self_attn.k", "attn1.to_v": "self_attn.v",
    "attn1.to_out.0": "self_attn.o", "attn2.to_q": "cross_attn.q", "attn2.to_v": "cross_attn.v",
    "ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2",
}


def make_model(references, layers, offset):
    """Every weight matters: norms, biases and tables are off the values that they begin with."""
    references.seed_everything(0)
    model, generator = WanTransformer3DModel(**CONFIG, num_layers=layers).eval(), references.generator(offset)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            numbers = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim < 2 or "scale_shift" in name:
                parameter.add_(numbers * 0.1)
            else:
                parameter.copy_(numbers * parameter[0].numel() ** -0.5)
    return model.to(DEVICE)


def make_caches(references):
    first = make_model(references, 4, 500)

    def fresh():
        # Hooks stay on a model: each cache has a copy of its own.
        model = WanTransformer3DModel.from_config(first.config).to(DEVICE).eval()
        model.load_state_dict(first.state_dict())
        return model

    noise, drift, words = (
        references.randn(offset, *shape).to(DEVICE)
        for offset, shape in ((501, (1, 16, 3, 8, 12)), (502, (1, 16, 3, 8, 12)), (503, (1, 19, 40)))
    )
    tensors = {"noise": noise, "drift": drift, "encoder_hidden_states": words, "timesteps": torch.tensor(TIMES)}

    def call(model, i):
        return model(noise + 0.02 * i * drift, torch.tensor([TIMES[i]], device=DEVICE), words, return_dict=False)[0]

    first.save_pretrained(references.path("tiny_cache"))
    for i in range(len(TIMES)):
        tensors[f"plain.{i}"] = call(first, i)
    for threshold in (0.1, 0.25, 0.5, 1.0):
        model = fresh()
        apply_first_block_cache(model, FirstBlockCacheConfig(threshold=threshold))
        with model.cache_context("cond"):
            for i in range(len(TIMES)):
                tensors[f"first_block.{threshold}.{i}"] = call(model, i)
    model, now = fresh(), {}
    apply_pyramid_attention_broadcast(model, PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2, cross_attention_block_skip_range=3,
        spatial_attention_timestep_skip_range=(100, 800), cross_attention_timestep_skip_range=(100, 800),
        spatial_attention_block_identifiers=("blocks",), current_timestep_callback=lambda: now["time"],
    ))
    for i, time in enumerate(TIMES):
        now["time"] = time
        tensors[f"pab.{i}"] = call(model, i)
    references.save("tiny_cache/reference", tensors, {
        "sample": "noise + 0.02 * i * drift", "pab": dict(self_attention=2, cross_attention=3, between=[100, 800]),
    })


def make_loras(references):
    model = make_model(references, 2, 520)
    model.save_pretrained(references.path("tiny_lora"))
    inputs = {
        "hidden_states": references.randn(521, 1, 16, 3, 8, 12).to(DEVICE),
        "timestep": torch.tensor([637.0], device=DEVICE),
        "encoder_hidden_states": references.randn(522, 1, 19, 40).to(DEVICE),
    }
    output = lambda: model(**inputs, return_dict=False)[0]
    tensors = {**inputs, "base": output()}
    rank, alpha, strength = 4, 2.0, 0.8
    peft, comfy, kohya, merged = {}, {}, {}, dict(model.named_parameters())
    with torch.no_grad():
        for i in range(2):
            for j, (ours, theirs) in enumerate(LAYERS.items()):
                w, at = merged[f"blocks.{i}.{ours}.weight"], 530 + 20 * i + 2 * j
                a = references.randn(at, rank, w.shape[1]).to(DEVICE) * 0.2
                b = references.randn(at + 1, w.shape[0], rank).to(DEVICE) * 0.2
                w.add_(strength * alpha / rank * (b @ a))
                # diffusers' own layout has no alpha: it is folded into B.
                name = f"transformer.blocks.{i}.{ours}"
                peft[f"{name}.lora_A.weight"], peft[f"{name}.lora_B.weight"] = a, b * alpha / rank
                name = f"diffusion_model.blocks.{i}.{theirs}"
                comfy[f"{name}.lora_down.weight"], comfy[f"{name}.lora_up.weight"] = a, b
                comfy[f"{name}.alpha"] = torch.tensor(alpha)
                name = f"lora_unet_blocks_{i}_{theirs.replace('.', '_')}"
                kohya[f"{name}.lora_down.weight"], kohya[f"{name}.lora_up.weight"] = a, b
                kohya[f"{name}.alpha"] = torch.tensor(alpha)
        tensors["merged"] = output()
        bias, delta = (references.randn(offset, 64).to(DEVICE) * 0.1 for offset in (580, 581))
        merged["blocks.0.attn1.to_q.bias"].add_(strength * bias)
        merged["blocks.1.norm2.weight"].add_(strength * delta)
        tensors["merged_with_differences"] = output()
    differences = {"diffusion_model.blocks.0.self_attn.q.diff_b": bias, "diffusion_model.blocks.1.norm3.diff": delta}
    references.save("tiny_lora/reference", tensors, {
        "strength": strength, "files": ["lora_peft", "lora_comfy", "lora_kohya"], "with_differences": "lora_comfy_diff",
    })
    layouts = {"lora_peft": peft, "lora_comfy": comfy, "lora_kohya": kohya, "lora_comfy_diff": {**comfy, **differences}}
    for name, lora in layouts.items():
        references.save(f"tiny_lora/{name}", lora)


def make(references):
    with torch.no_grad():
        make_caches(references)
    make_loras(references)
