"""tests/fixtures/router: small routers as torch.save writes them, and the scores they give.

Runs on any PyTorch from 1.6 on (Debian's python3-torch is enough), on the CPU:
    python3 tools/references/router_files.py tests/fixtures/router
"""
import json
import sys
from collections import OrderedDict
from pathlib import Path

import torch

BLOCKS, HEADS, DIM, SEED = 2, 2, 8, 7


def router():
    """Linear layers as torch initialises them, under the names of the authors' state dict."""
    torch.manual_seed(SEED)
    tensors = {}
    for block in range(BLOCKS):
        linear = torch.nn.Linear(DIM, 3 * HEADS)
        tensors[f"blocks.{block}.router.linear.weight"] = linear.weight.detach().clone()
        tensors[f"blocks.{block}.router.linear.bias"] = linear.bias.detach().clone()
    return tensors


def scores(tensors, temb):
    """[blocks, timesteps, heads, 3]"""
    return torch.stack([
        torch.nn.functional.linear(
            torch.nn.functional.silu(temb),
            tensors[f"blocks.{block}.router.linear.weight"], tensors[f"blocks.{block}.router.linear.bias"],
        ).unflatten(1, (HEADS, 3)).softmax(-1)
        for block in range(BLOCKS)
    ])


def adamw():
    """Three clipped steps of two parameters, by torch.optim.AdamW with the authors' options."""
    generator = torch.Generator().manual_seed(3)
    randn = lambda *shape: torch.randn(shape, generator=generator)
    parameters = [torch.nn.Parameter(randn(5)), torch.nn.Parameter(randn(2, 3))]
    start = [parameter.flatten().tolist() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, betas=(0.9, 0.999), weight_decay=0.01, eps=1e-8)
    steps = []
    for scale in 1.0, 0.01, 3.0:
        for parameter in parameters:
            parameter.grad = randn(*parameter.shape) * scale
        gradients = [parameter.grad.flatten().tolist() for parameter in parameters]
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0).item()
        optimizer.step()
        after = [parameter.flatten().tolist() for parameter in parameters]
        steps.append({"gradients": gradients, "norm": norm, "after": after})
    return {"start": start, "steps": steps}


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    tensors = router()
    for name, dtype in ("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16):
        torch.save({key: value.to(dtype) for key, value in tensors.items()}, out / f"{name}.pt")
    # Views: a transposed matrix, and slices of one storage.
    everything = torch.cat([value.flatten() for value in tensors.values()])
    views, at = {}, 0
    for key, value in tensors.items():
        views[key] = everything[at:at + value.numel()].view(value.shape)
        at += value.numel()
    torch.save(views, out / "slices.pt")
    torch.save({k: v.t().contiguous().t() if v.dim() == 2 else v for k, v in tensors.items()}, out / "transposed.pt")
    # As FSDP names modules, and as `state_dict()` returns them: an OrderedDict with an attribute.
    ordered = OrderedDict((f"_fsdp_wrapped_module.{key}", value) for key, value in tensors.items())
    ordered._metadata = OrderedDict({"": {"version": 1}})
    torch.save(ordered, out / "ordered.pt")
    torch.save(tensors, out / "protocol4.pt", pickle_protocol=4)
    torch.save(tensors, out / "before_1.6.pt", _use_new_zipfile_serialization=False)

    temb = torch.randn(3, DIM, generator=torch.Generator().manual_seed(1), requires_grad=False)
    leaves = {key: value.clone().requires_grad_() for key, value in tensors.items()}
    result = scores(leaves, temb)
    upstream = torch.randn(result.shape, generator=torch.Generator().manual_seed(2))
    (result * upstream).sum().backward()
    expected = {
        "torch": torch.__version__, "temb": temb.tolist(), "scores": result.tolist(), "upstream": upstream.tolist(),
        "tensors": {key: value.flatten().tolist() for key, value in tensors.items()},
        "gradients": {key: value.grad.flatten().tolist() for key, value in leaves.items()},
        "adamw": adamw(),
    }
    (out / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
