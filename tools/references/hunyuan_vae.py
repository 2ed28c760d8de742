"""tiny_hunyuan_vae: a small HunyuanVideo autoencoder with random weights, with latents, a clip, and what becomes of them.

Its weights are a fixture, too, drawn on the CPU. `tiled.*` are tiled in space and time, the clip being the decoded one
within -1...1; the others are short enough to go through whole.
"""
import torch

from common import DEVICE
from diffusers import AutoencoderKLHunyuanVideo
from hunyuan import stir

CONFIG = dict(block_out_channels=(8, 16, 16, 24), layers_per_block=1, norm_num_groups=4)


@torch.no_grad()
def make(references):
    references.seed_everything(0)
    model = stir(AutoencoderKLHunyuanVideo(**CONFIG).eval(), references.generator(240)).to(DEVICE)
    model.save_pretrained(references.path("tiny_hunyuan_vae"))
    latents = references.randn(241, 1, 16, 3, 5, 6).to(DEVICE)
    clip = torch.tanh(references.randn(242, 1, 3, 9, 40, 48)).to(DEVICE)
    posterior = model.encode(clip).latent_dist
    decoded = model.decode(latents).sample
    tensors = {"latents": latents, "decoded": decoded, "clip": clip, "mean": posterior.mean, "logvar": posterior.logvar}
    model.enable_tiling(
        tile_sample_min_height=32, tile_sample_min_width=32, tile_sample_min_num_frames=16,
        tile_sample_stride_height=24, tile_sample_stride_width=24, tile_sample_stride_num_frames=12,
    )
    latents = references.randn(243, 1, 16, 6, 5, 5).to(DEVICE)
    decoded = model.decode(latents).sample
    posterior = model.encode(decoded.clamp(-1, 1)).latent_dist
    tiled = {"latents": latents, "decoded": decoded, "mean": posterior.mean, "logvar": posterior.logvar}
    tensors |= {f"tiled.{name}": tensor for name, tensor in tiled.items()}
    references.save("tiny_hunyuan_vae/reference", tensors)
