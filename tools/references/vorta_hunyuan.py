"""vorta_hunyuan_{a,train}: the VORTA authors' code for HunyuanVideo, with text behind the video.

`a` has the three branches on random q, k, v. `train` has a training pass through tiny_hunyuan with the authors' routers:
losses, and the gradients of the routers of blocks of both kinds; and the outputs of routed inference. Comes last, since their code replaces methods of
diffusers' classes.
"""
import torch
import torch.nn.functional as F

import hunyuan
import vorta_source  # before the authors' modules for HunyuanVideo, which it makes loadable
import vorta.attention.hunyuan
from common import DEVICE
from vorta.attention.hunyuan import HunyuanVideoFlashAttnProcessorTripleTrain
from vorta.patch.modeling_hunyuan import apply_vorta_transformer

if DEVICE == "cpu":
    vorta.attention.hunyuan.flex_attention = vorta_source.masked_attention

BRANCHES = dict(grid=(6, 8, 8), coreset_window=(2, 2, 2), tile=(2, 4, 4), sliding_window=(3, 1, 1))
HEADS, HEAD_DIM, TEXT, PROMPT = 3, 32, 24, 17
REDUCTION_RATE = 0.5
#: Of the training pass, by the authors' names.
CONFIG = dict(
    lowres_window_size=[2, 2, 2], lowres_reduction_rate=0.5, window_size=[3, 3, 3], tile_size=[2, 2, 2],
    latent_shape=[4, 6, 8],
)
SIGMA = 0.637
REGULARIZATION, DISTILLATION, HIDDEN = 0.02, 20.0, 0.5
THRESHOLDS = 0.3, 0.5


def branches(references):
    grid, window, tile, sliding = BRANCHES.values()
    video, device = grid[0] * grid[1] * grid[2], torch.device(DEVICE)
    q, k, v = (references.randn(400 + i, 1, HEADS, video + TEXT, HEAD_DIM).to(DEVICE) for i in range(3))
    mask = torch.zeros(1, 1, 1, video + TEXT, dtype=torch.bool, device=DEVICE)
    mask[..., : video + PROMPT] = True
    processor = HunyuanVideoFlashAttnProcessorTripleTrain()
    groups = vorta_source.get_group_info(grid, window, reduction_rate=REDUCTION_RATE, device=device)
    blocks = vorta_source.create_sliding_tile_attn_mask_func(grid, sliding, tile, TEXT, PROMPT, device)
    outputs = {
        "full": processor._step_attention(q, k, v, mask, TEXT),
        "coreset": processor._step_lowres_attention(q, k, v, mask, TEXT, groups),
        "sliding": processor._step_sliding_attention(q, k, v, TEXT, blocks, tile, grid),
    }
    tensors = {"q": q, "k": k, "v": v}
    for name, (of_video, of_text) in outputs.items():
        tensors |= {name: of_video, f"{name}.text": of_text[:, :, :PROMPT]}
    references.save("vorta_hunyuan_a", tensors, {
        **BRANCHES, "reduction_rate": REDUCTION_RATE, "text_tokens": TEXT, "valid_text_tokens": PROMPT,
    })


def routers(model):
    """The routers by the prefixes of their names."""
    blocks = {f"transformer_blocks.{i}": block for i, block in enumerate(model.transformer_blocks)}
    blocks |= {f"single_transformer_blocks.{i}": block for i, block in enumerate(model.single_transformer_blocks)}
    return {
        f"{prefix}.router.linear.{name}": getattr(block.router.linear, name)
        for prefix, block in blocks.items() for name in ("weight", "bias")
    }


@torch.no_grad()
def evaluate(model, inputs):
    """Outputs of routed inference."""
    apply_vorta_transformer(model, train_router=False)
    outputs = {}
    for threshold in THRESHOLDS:
        arguments = vorta_source.prepare_hunyuan_self_attn_kwargs(dict(CONFIG), torch.device(DEVICE), threshold)
        outputs[f"output.tau{threshold}"] = model(**inputs, self_attention_kwargs=arguments, return_dict=False)[0]
    return outputs


def train(references):
    """One pass, as train_one_step.py has it: guidance 1, and the sum of all losses backwards."""
    model = hunyuan.make_model(references).requires_grad_(False)
    references.seed_everything(403)
    apply_vorta_transformer(model, train_router=True)
    parameters = routers(model)
    for i, parameter in enumerate(parameters.values()):
        with torch.no_grad():
            parameter.copy_(references.randn(410 + i, *parameter.shape) * (0.05 if parameter.ndim > 1 else 0.5))
    frames, rows, columns = CONFIG["latent_shape"]
    latents = (1, 16, frames, 2 * rows, 2 * columns)
    clean, noise = (references.randn(404 + i, *latents).to(DEVICE) for i in range(2))
    target = noise - 0.8 * clean
    inputs = {
        **hunyuan.make_inputs(references, 406, latents, guidance=1),
        "hidden_states": (1 - SIGMA) * 0.8 * clean + SIGMA * noise,
    }
    arguments = vorta_source.prepare_hunyuan_self_attn_kwargs(dict(CONFIG), torch.device(DEVICE))
    # With gradient checkpointing alone the authors' code makes losses; here nothing is recomputed.
    model.gradient_checkpointing = True
    model._gradient_checkpointing_func = lambda block, *args: block(*args)
    output, regularization, distillation, hidden, scores = model(
        **inputs, self_attention_kwargs=arguments, return_dict=False, return_routing_scores=True, return_losses=True,
        reture_hidden_layer_distill_loss=True,
    )
    diffusion = F.mse_loss(output, target)
    total = diffusion + REGULARIZATION * regularization + DISTILLATION * distillation + HIDDEN * hidden
    total.backward()
    model.gradient_checkpointing = False
    references.save("vorta_hunyuan_train", {
        **inputs, "target": target, "output": output, "routing_scores": torch.stack(scores),
        "loss.diffusion": diffusion, "loss.regularization": regularization, "loss.distillation": distillation,
        "loss.hidden": hidden, "loss.total": total,
        **{name: parameter.detach().clone() for name, parameter in parameters.items()},
        **{f"grad.{name}": parameter.grad for name, parameter in parameters.items()},
        **evaluate(model, inputs),
    }, {
        "config": CONFIG, "weights": {"regularization": REGULARIZATION, "distillation": DISTILLATION, "hidden": HIDDEN},
    })


def make(references):
    with torch.no_grad():
        branches(references)
    train(references)
