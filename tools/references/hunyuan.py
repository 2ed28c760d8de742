"""tiny_hunyuan: a small HunyuanVideo transformer with random weights, with inputs and outputs.

Its weights are a fixture, too. All numbers are drawn on the CPU, but the sinusoids of a GPU differ by some units in the
last place, which the scale of guidance (6000) makes 3e-5 of the output: the reference is best made on a CPU.
"""
import torch

from common import DEVICE
from diffusers import HunyuanVideoTransformer3DModel

CONFIG = dict(
    in_channels=16, out_channels=16, patch_size=2, patch_size_t=1, mlp_ratio=4.0, num_attention_heads=2,
    attention_head_dim=32, rope_axes_dim=(8, 12, 12), num_layers=2, num_single_layers=3, text_embed_dim=48,
    pooled_projection_dim=24, num_refiner_layers=2, guidance_embeds=True,
)
LATENTS = (1, 16, 5, 12, 20)
#: Text tokens, and how many of them are a prompt.
TEXT, PROMPT = 24, 17


def stir(model, generator):
    """Makes every weight matter: norms and biases are off the values that they begin with."""
    with torch.no_grad():
        for parameter in model.parameters():
            numbers = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim < 2:
                parameter.add_(numbers * 0.1)
            else:
                parameter.copy_(numbers * parameter[0].numel() ** -0.5)
    return model


def make_model(references):
    references.seed_everything(0)
    return stir(HunyuanVideoTransformer3DModel(**CONFIG).eval(), references.generator(200)).to(DEVICE)


def make_inputs(references, offset, latents, guidance):
    """Arguments of the forward pass; the text is padded."""
    mask = torch.zeros(1, TEXT, dtype=torch.int64, device=DEVICE)
    mask[:, :PROMPT] = 1
    return {
        "hidden_states": references.randn(offset, *latents).to(DEVICE),
        "timestep": torch.tensor([637.0], device=DEVICE),
        "encoder_hidden_states": references.randn(offset + 1, 1, TEXT, CONFIG["text_embed_dim"]).to(DEVICE),
        "encoder_attention_mask": mask,
        "pooled_projections": references.randn(offset + 2, 1, CONFIG["pooled_projection_dim"]).to(DEVICE),
        "guidance": torch.tensor([1000.0 * guidance], device=DEVICE),
    }


@torch.no_grad()
def make(references):
    model = make_model(references)
    model.save_pretrained(references.path("tiny_hunyuan"))
    inputs = make_inputs(references, 201, LATENTS, guidance=6)
    output = model(**inputs, return_dict=False)[0]
    references.save("tiny_hunyuan/reference", {**inputs, "output": output})
