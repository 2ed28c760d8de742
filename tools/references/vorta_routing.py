"""vorta_train and vorta_eval: the demo model with the VORTA authors' routers, trained and run by their code.

Needs a GPU, as PyTorch has no gradients of FlexAttention on a CPU. Comes last, since their code replaces methods of
diffusers' classes.
"""
import torch
import torch.nn.functional as F

import vorta_source
from common import DEVICE, MAX_SEQUENCE_LENGTH
from diffusers import WanTransformer3DModel
from diffusers.models.embeddings import get_1d_rotary_pos_embed

CONFIG = dict(
    lowres_window_size=[2, 2, 2], lowres_reduction_rate=0.5, window_size=[3, 3, 3], tile_size=[2, 2, 2],
    latent_shape=[8, 8, 8],
)
PROMPT = "a red circle moving right on a black background"
LATENTS = (1, 16, 8, 16, 16)
SIGMA = 0.62
REGULARIZATION, DISTILLATION = 0.02, 20.0
TRAINING_STEPS = 3
THRESHOLDS = 0.3, 0.5


def restore_rope(model):
    """The authors' code wants the complex frequencies that diffusers kept at the time."""
    head_dim = model.config.attention_head_dim
    side = 2 * (head_dim // 6)
    axes = [
        get_1d_rotary_pos_embed(
            dim, 1024, 10000.0, use_real=False, repeat_interleave_real=False, freqs_dtype=torch.float64,
        )
        for dim in (head_dim - 2 * side, side, side)
    ]
    model.rope.freqs = torch.cat(axes, dim=1)


def routed_model(references):
    """The demo model's transformer, frozen, with random routers, ready for their training."""
    model = WanTransformer3DModel.from_pretrained(references.model, subfolder="transformer", torch_dtype=torch.float32)
    model.to(DEVICE).requires_grad_(False)
    restore_rope(model)
    references.seed_everything(30)
    vorta_source.apply_vorta_transformer(model, train_router=True)
    model.to(DEVICE)
    for block in model.blocks:
        torch.nn.init.normal_(block.router.linear.weight, std=0.05)
        torch.nn.init.normal_(block.router.linear.bias, std=0.5)
    return model


def attention_arguments(threshold=None):
    """What every forward pass is told about its grid; with a threshold, heads below it are left out."""
    return vorta_source.prepare_wan_self_attn_kwargs(dict(CONFIG), torch.device(DEVICE), threshold)


def make_inputs(references, latents=LATENTS, offset=31):
    """A noised sample with its timestep and text, and the velocity that belongs to it."""
    clean = references.randn(offset, *latents).to(DEVICE) * 0.8
    noise = references.randn(offset + 1, *latents).to(DEVICE)
    embeds, _ = references.pipeline.encode_prompt(
        [PROMPT], max_sequence_length=MAX_SEQUENCE_LENGTH, device=DEVICE, do_classifier_free_guidance=False,
    )
    inputs = {
        "hidden_states": (1 - SIGMA) * clean + SIGMA * noise,
        "timestep": torch.tensor([1000 * SIGMA], device=DEVICE),
        "encoder_hidden_states": embeds.detach(),
    }
    return inputs, noise - clean


def router_tensors(model, prefix, select=lambda parameter: parameter):
    """Copies of the routers' weights and biases, or of what `select` makes of each."""
    tensors = {}
    for i, block in enumerate(model.blocks):
        for name in "weight", "bias":
            parameter = getattr(block.router.linear, name)
            tensors[f"{prefix}blocks.{i}.router.linear.{name}"] = select(parameter).detach().clone()
    return tensors


def total_loss(diffusion, regularization, distillation):
    return diffusion + REGULARIZATION * regularization + DISTILLATION * distillation


def first_pass(model, inputs, target):
    """The first step's losses, routing scores and gradients."""
    output, regularization, distillation, hidden, scores = model(
        **inputs, self_attention_kwargs=attention_arguments(), return_dict=False, return_routing_scores=True,
        return_losses=True, reture_hidden_layer_distill_loss=True,
    )
    diffusion = F.mse_loss(output, target)
    total = total_loss(diffusion, regularization, distillation)
    total.backward()
    return {
        "output": output, "loss.diffusion": diffusion, "loss.regularization": regularization,
        "loss.distillation": distillation, "loss.hidden": hidden, "loss.total": total,
        "routing_scores": torch.stack(scores),
        **router_tensors(model, ""),
        **router_tensors(model, "grad.", lambda parameter: parameter.grad),
    }


def train(model, inputs, target):
    """A few steps of training; returns each one's loss."""
    arguments = attention_arguments()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, betas=(0.9, 0.999), weight_decay=0.01, eps=1e-8)
    losses = []
    for _ in range(TRAINING_STEPS):
        optimizer.zero_grad()
        output, regularization, distillation, _, _ = model(
            **inputs, self_attention_kwargs=arguments, return_dict=False, return_losses=True,
        )
        loss = total_loss(F.mse_loss(output, target), regularization, distillation)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def evaluate(model, inputs, routers):
    """Outputs of routed inference with the routers as they were before training."""
    vorta_source.apply_vorta_transformer(model, train_router=False)
    model.load_state_dict(routers, strict=False)
    outputs = {}
    for threshold in THRESHOLDS:
        output, *_ = model(**inputs, self_attention_kwargs=attention_arguments(threshold), return_dict=False)
        outputs[f"output.tau{threshold}"] = output
    return outputs


def make(references):
    model = routed_model(references)
    routers = router_tensors(model, "")
    inputs, target = make_inputs(references)
    tensors = {**inputs, "target": target, **first_pass(model, inputs, target)}
    losses = train(model, inputs, target)
    tensors |= router_tensors(model, f"step{TRAINING_STEPS}.")
    references.save("vorta_train", tensors, {
        "config": CONFIG,
        "loss": "diffusion + 0.02 * regularization + 20 * distillation",
        "optimizer": "AdamW lr 1e-2 betas 0.9 0.999 wd 0.01 eps 1e-8, grad norm clipped at 1.0",
        "losses_of_3_steps": losses,
    })
    outputs = evaluate(model, inputs, routers)
    references.save("vorta_eval", outputs, {"config": CONFIG, "inputs": "vorta_train.safetensors"})
