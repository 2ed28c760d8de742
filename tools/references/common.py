"""What the sections share: the device, exact float32, where references go and what random numbers they begin with."""
import functools
import json
import os
import sys

import torch
from safetensors.torch import save_file

if "DIFFUSERS_SRC" in os.environ:
    # Modules that import this one before diffusers get that diffusers.
    sys.path.insert(0, os.environ["DIFFUSERS_SRC"])

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
#: The demo model's own; Wan's is 512.
MAX_SEQUENCE_LENGTH = 32

# References are float32 throughout.
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.set_float32_matmul_precision("highest")


class References:
    """One making of references: the model they are made with, the folder they go to, and the seed.

    Every random tensor has a seed of its own, an offset from the common one, so that it stays what it is when others
    come and go. Offsets: 1 schedulers, 2-7 demo, 11-18 tiny, 20-22 vorta_attention, 30-34 vorta_routing
    and vorta_partial, 200-203 hunyuan, 240-243 hunyuan_vae, 250-261 text_encoders, 260-264 hunyuan_pipeline,
    400-419 vorta_hunyuan, 500-503 and 520-581 wan_caches, 590-592 fastwan, 600-729 wan_images.
    """

    def __init__(self, model, out, seed):
        self.model, self.out, self.seed = model, out, seed
        os.makedirs(out, exist_ok=True)

    def path(self, name):
        """Where the file or folder of that name goes."""
        return os.path.join(self.out, name)

    def generator(self, offset):
        """A generator on the CPU, whose numbers do not depend on the device."""
        return torch.Generator("cpu").manual_seed(self.seed + offset)

    def randn(self, offset, *shape):
        """Normal numbers, on the CPU."""
        return torch.randn(*shape, generator=self.generator(offset))

    def seed_everything(self, offset):
        """Seeds what has no generator of its own: the initial weights of modules, also those drawn on the GPU."""
        torch.manual_seed(self.seed + offset)

    def save(self, name, tensors, metadata=None):
        """Writes `name`.safetensors. Metadata's values are JSON, since the format only knows strings."""
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        header = {key: json.dumps(value) for key, value in (metadata or {}).items()}
        save_file(tensors, self.path(f"{name}.safetensors"), metadata=header)
        print("saved", name, f"({len(tensors)} tensors)", flush=True)

    @functools.cached_property
    def pipeline(self):
        """diffusers' pipeline over the model, in float32."""
        from diffusers import WanPipeline

        pipeline = WanPipeline.from_pretrained(self.model, torch_dtype=torch.float32).to(DEVICE)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
