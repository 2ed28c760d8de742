"""tiny_fastwan: a small FastWan with random weights, by FastVideo's own transformer with video sparse attention (VSA).

Tiles, gates and everything around them are FastVideo's code. Its kernels want CUDA: what `video_sparse_attn` computes
is written here in PyTorch, by its definition; `fastwan_kernels.py` compares it with the kernels. Wants FASTVIDEO_SRC, the folder that holds the package `fastvideo`.
"""
import importlib
import json
import math
import os
import sys
import tempfile
import types

import torch
from safetensors.torch import save_file

CONFIG = dict(
    patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=32, in_channels=16, out_channels=16, text_dim=40,
    freq_dim=256, ffn_dim=96, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads", eps=1e-6,
)
#: 5x6x9 tokens, so that tiles of 4x4x4 are partial along every axis.
LATENTS = (1, 16, 5, 12, 18)
TEXT_TOKENS = 19
#: The first and the last of FastWan's timesteps.
TIMES = [1000.0, 522.0]
SPARSITY = 0.6
#: Of FastVideo's imports, those that its transformer does not need.
UNUSED = {
    "torchvision.utils": ["make_grid"], "remote_pdb": ["RemotePdb"], "imageio": [], "cloudpickle": [],
    "diffusers.loaders.lora_base": ["_best_guess_weight_name"],
}
#: diffusers' names of layers by FastVideo's. Within blocks, self-attention's stand under attn1.
NAMES = {
    "patch_embedding.proj": "patch_embedding", "time_embedder.mlp.fc_in": "time_embedder.linear_1",
    "time_embedder.mlp.fc_out": "time_embedder.linear_2", "time_modulation.linear": "time_proj",
    "text_embedder.fc_in": "text_embedder.linear_1", "text_embedder.fc_out": "text_embedder.linear_2",
    "self_attn_residual_norm.norm": "norm2", "ffn.fc_in": "ffn.net.0.proj", "ffn.fc_out": "ffn.net.2",
    "to_out": "to_out.0",
}
SELF_ATTENTION = ["to_q", "to_k", "to_v", "to_out", "norm_q", "norm_k"]


def import_fastvideo():
    """Makes the modules of FastVideo importable, without what `import fastvideo` itself would run."""
    source = os.environ["FASTVIDEO_SRC"]
    package = types.ModuleType("fastvideo")
    package.__path__ = [os.path.join(source, "fastvideo")]
    sys.modules["fastvideo"] = package
    for name, attributes in UNUSED.items():
        try:
            importlib.import_module(name)
        except ImportError:
            parts = name.split(".")
            for i in range(1, len(parts) + 1):
                sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
            for attribute in attributes:
                setattr(sys.modules[name], attribute, None)
    os.environ["FASTVIDEO_ATTENTION_BACKEND"] = "VIDEO_SPARSE_ATTN"
    from fastvideo.platforms import AttentionBackendEnum
    from fastvideo.platforms.cpu import CpuPlatform

    # A CPU is given no kind of attention. With text, blocks use that of PyTorch.
    backends = "fastvideo.attention.backends"
    CpuPlatform.get_attn_backend_cls = classmethod(
        lambda _cls, wanted, *_: f"{backends}.video_sparse_attn.VideoSparseAttentionBackend"
        if wanted == AttentionBackendEnum.VIDEO_SPARSE_ATTN else f"{backends}.sdpa.SDPABackend",
    )


def video_sparse_attn(q, k, v, sizes, q_sizes, topk, block_size, compress_attn_weight):
    """VSA of padded tiles, [batch, heads, tiles x rows, head dim], whose first `sizes` rows count."""
    batch, heads, _, dim = q.shape
    rows, tiles = math.prod(block_size), sizes.numel()
    of_tiles = lambda x: x.view(batch, heads, tiles, rows, dim)
    mean = lambda x, n: of_tiles(x).sum(3) / n.view(-1, 1)
    scores = mean(q, q_sizes) @ mean(k, sizes).mT / dim**0.5
    coarse = (scores.softmax(-1) @ mean(v, sizes)).repeat_interleave(rows, 2)
    kept = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, scores.topk(topk).indices, True)
    real = (torch.arange(rows) < sizes.view(-1, 1)).flatten()
    mask = kept.repeat_interleave(rows, 2).repeat_interleave(rows, 3) & real
    sparse = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)
    return coarse * compress_attn_weight + sparse


def make_model(references):
    """The transformer as FastVideo makes it from a checkpoint. Every weight matters."""
    from fastvideo.configs.models.dits.wanvideo import WanVideoArchConfig, WanVideoConfig
    from fastvideo.distributed.parallel_state import maybe_init_distributed_environment_and_model_parallel
    from fastvideo.models.dits.wanvideo import WanTransformer3DModel

    place = tempfile.NamedTemporaryFile()
    maybe_init_distributed_environment_and_model_parallel(1, 1, f"file://{place.name}.store")
    config = WanVideoConfig(arch_config=WanVideoArchConfig(**CONFIG))
    model, generator = WanTransformer3DModel(config, {}).eval(), references.generator(590)
    for name, parameter in sorted(model.named_parameters()):
        numbers = torch.randn(parameter.shape, generator=generator)
        if "scale_shift" in name:
            parameter.copy_(numbers * 0.1)
        elif parameter.ndim < 2:
            parameter.copy_(numbers * 0.1 + (1 if "norm" in name and name.endswith("weight") else 0))
        else:
            parameter.copy_(numbers * parameter[0].numel() ** -0.5)
    return model


def diffusers_name(name):
    """The name of a parameter in the files that FastVideo reads. They have no other for gates than its own."""
    for ours, theirs in NAMES.items():
        name = name.replace(f"{ours}.", f"{theirs}.")
    parts = name.split(".")
    if parts[0] == "blocks" and parts[2] in SELF_ATTENTION:
        parts.insert(2, "attn1")
    return ".".join(parts)


@torch.no_grad()
def make(references):
    import_fastvideo()
    from fastvideo.attention.backends import video_sparse_attn as backend
    from fastvideo.forward_context import set_forward_context

    backend.video_sparse_attn = video_sparse_attn
    model, folder = make_model(references), references.path("tiny_fastwan")
    os.makedirs(folder, exist_ok=True)
    weights = {diffusers_name(name): parameter.contiguous() for name, parameter in model.named_parameters()}
    save_file(weights, os.path.join(folder, "diffusion_pytorch_model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump({"_class_name": "WanTransformer3DModel", **CONFIG}, f, indent=2)
        f.write("\n")
    noise, words = references.randn(591, *LATENTS), references.randn(592, 1, TEXT_TOKENS, CONFIG["text_dim"])
    tensors = {"hidden_states": noise, "encoder_hidden_states": words, "timesteps": torch.tensor(TIMES)}
    for i, time in enumerate(TIMES):
        plan = backend.VideoSparseAttentionMetadataBuilder().build(
            int(time), LATENTS[2:], CONFIG["patch_size"], SPARSITY, torch.device("cpu"),
        )
        with set_forward_context(int(time), plan):
            tensors[f"output.{i}"] = model(noise, words, torch.tensor([time]))
    references.save("tiny_fastwan/reference", tensors, {"sparsity": SPARSITY})
