"""tiny_taehv: a narrow TAEHV with random weights, and what it decodes, by its author's own code.

usage: tiny_taehv.py OUT      needs PyTorch, safetensors, and taehv.py of madebyollin/taehv on PYTHONPATH (its tqdm, too)
"""

import sys
import types

try:
    import tqdm.auto  # noqa: F401
except ImportError:  # it only shows progress
    sys.modules["tqdm"], sys.modules["tqdm.auto"] = types.ModuleType("tqdm"), types.ModuleType("tqdm.auto")
    sys.modules["tqdm.auto"].tqdm = lambda items, **_: items

import torch
from safetensors.torch import save_file
from taehv import Clamp, MemBlock, TAEHV, TGrow, apply_model_with_memblocks, conv
from torch import nn


def decoder(latent_channels, widths, patch):
    """As TAEHV.__init__ builds it, with other widths."""
    layers = [Clamp(), conv(latent_channels, widths[0]), nn.ReLU()]
    for i, time in enumerate((1, 2, 2)):
        a, b = widths[i], widths[i + 1]
        layers += [MemBlock(a, a), MemBlock(a, a), MemBlock(a, a), nn.Upsample(scale_factor=2), TGrow(a, time)]
        layers += [conv(a, b, bias=False)]
    return nn.Sequential(*layers, nn.ReLU(), conv(widths[-1], 3 * patch**2))


def main(out):
    torch.manual_seed(100)
    for name, latent_channels, patch in (("a", 16, 1), ("b", 48, 2)):
        model = TAEHV.__new__(TAEHV)
        nn.Module.__init__(model)
        model.decoder, model.patch_size, model.is_cogvideox = decoder(latent_channels, [20, 16, 12, 8], patch), patch, False
        model.frames_to_trim, model.is_h3 = 3, False
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.05 if parameter.ndim == 1 else 1.3 / parameter[0].numel() ** 0.5)
        latents = 1.5 * torch.randn(1, 4, latent_channels, 3, 5)
        with torch.no_grad():
            # So that few colours are clamped.
            last = model.decoder[-1]
            last.bias.zero_()
            last.weight *= 0.2 / apply_model_with_memblocks(model.decoder, latents, True, False).std()
            last.bias.fill_(0.5)
            video = model.decode_video(latents, show_progress_bar=False)
        tensors = {f"decoder.{key}": value for key, value in model.decoder.state_dict().items()}
        # The files of TAEHV hold weights of a step in time that Wan's does not take: its last channels are used.
        grow = "decoder.7.conv.weight"
        tensors[grow] = torch.cat([torch.randn_like(tensors[grow]), tensors[grow]])
        save_file({key: value.contiguous() for key, value in tensors.items()}, f"{out}/{name}.safetensors")
        reference = {"latents": latents[0].transpose(0, 1)[None], "video": video[0].transpose(0, 1)[None] * 2 - 1}
        save_file({key: value.contiguous() for key, value in reference.items()}, f"{out}/{name}_reference.safetensors")
        print(name, tuple(video.shape), float(video.std()), float((video == 0).float().mean()), float((video == 1).float().mean()))


main(sys.argv[1])
