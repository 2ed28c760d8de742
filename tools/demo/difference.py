"""Stores a model of the demo's layout as its difference to another one, in 8 bits by rows, and makes it again from that.

usage: difference.py pack OLD NEW OUT.safetensors    -> about 12 MB; prints how far what comes out again is from NEW
       difference.py apply OLD FILE NEW              -> the folder NEW: OLD's files with the weights that were packed

A weight's difference is a byte times its row's scale, rounded to nearest; tensors of one axis keep float32. Where a model
was trained on from another, that loses about as little as storing bfloat16 does.
"""
import argparse
import os
import shutil

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

PARTS = "transformer", "text_encoder", "vae"


def files_of(model):
    """The weights' files, relative to the model's folder."""
    return [f"{part}/{name}" for part in PARTS for name in sorted(os.listdir(f"{model}/{part}")) if name.endswith(".safetensors")]


def tensors_of(model):
    """{part/name: tensor} of all parts."""
    return {f"{file.split('/')[0]}/{n}": t for file in files_of(model) for n, t in load_file(f"{model}/{file}").items()}


def packed(old, new):
    out = {}
    for name, before in old.items():
        d = new[name].float() - before.float()
        if d.ndim < 2:
            out[name] = d
            continue
        rows = d.flatten(1)
        scale = rows.abs().amax(1).clamp(min=1e-12) / 127
        out[name + ":bytes"] = (rows / scale[:, None]).round().to(torch.int8)
        out[name + ":scale"] = scale
    return out


def applied(old, difference):
    out = {}
    for name, before in old.items():
        d = difference.get(name)
        if d is None:
            d = (difference[name + ":bytes"].float() * difference[name + ":scale"][:, None]).view(before.shape)
        out[name] = (before.float() + d).to(before.dtype)
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["pack", "apply"])
    p.add_argument("old")
    p.add_argument("second", help="pack: the new model's folder; apply: the packed file")
    p.add_argument("out")
    args = p.parse_args()
    old = tensors_of(args.old)
    if args.what == "pack":
        new = tensors_of(args.second)
        if set(old) != set(new) or any(old[n].shape != new[n].shape for n in old):
            p.error("the models are of different shapes")
        difference = {n: t.contiguous() for n, t in packed(old, new).items()}
        save_file(difference, args.out, metadata={"format": "pt"})
        back = applied(old, difference)
        for part in PARTS:
            errors = [(((back[n].double() - new[n].double()).norm() / new[n].double().norm().clamp(min=1e-12)).item(), n) for n in old if n.startswith(part)]
            print(f"{part}: relative error {np.mean([e for e, _ in errors]):.1e} in the mean, at most {max(errors)[0]:.1e} ({max(errors)[1]})")
        print(f"{args.out}: {os.path.getsize(args.out) / 1e6:.1f} MB")
        return
    new = applied(old, load_file(args.second))
    shutil.copytree(args.old, args.out)
    for file in files_of(args.old):
        part = file.split("/")[0]
        with safe_open(f"{args.old}/{file}", "pt") as source:
            names, metadata = list(source.keys()), source.metadata()
        save_file({n: new[f"{part}/{n}"].contiguous() for n in names}, f"{args.out}/{file}", metadata=metadata)


if __name__ == "__main__":
    main()
