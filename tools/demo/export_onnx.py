"""Exports a model's UMT5 text encoder to ONNX and holds the file to PyTorch.

    python3 tools/demo/export_onnx.py MODEL_DIR OUT.onnx

Needs torch, transformers and onnx, no network. What was written is run with onnxruntime where there is one, else with
onnx's reference evaluator, on other batch sizes and lengths than it was traced with; OUT.onnx appears only if that
agrees with PyTorch.
"""

import argparse
import os
import sys

import numpy as np
import onnx
import torch
from transformers import UMT5EncoderModel

OPSET = 17
# Relative error of a run in float32.
BOUND = 1e-5
INPUTS = ["input_ids", "attention_mask"]
OUTPUT = "last_hidden_state"
AXES = {name: {0: "batch", 1: "sequence"} for name in [*INPUTS, OUTPUT]}


class Encoder(torch.nn.Module):
    """The encoder with tensors in and one tensor out."""

    def __init__(self, model, ready_mask):
        super().__init__()
        self.model = model
        self.ready_mask = ready_mask

    def forward(self, input_ids, attention_mask):
        if self.ready_mask:
            # transformers adds a mask of four axes as it is. What it does to one of two axes differs between its
            # versions, and not all of them can be traced.
            attention_mask = (1.0 - attention_mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def tokens(model, batch, length, seed):
    """Random ids; every second text ends halfway."""
    ids = torch.randint(3, model.config.vocab_size, (batch, length), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    mask[1::2, (length + 1) // 2 :] = 0
    return ids * mask, mask


def run(path, feeds):
    """What the file makes of `feeds`."""
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(path).run([OUTPUT], feeds)[0]
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run([OUTPUT], feeds)[0]


def check(path, model):
    """Raises unless the file is sound and agrees with PyTorch."""
    onnx.checker.check_model(path)
    names = [value.name for value in onnx.load(path).graph.input]
    if names != INPUTS:
        raise RuntimeError(f"the file's inputs are {names}, not {INPUTS}")
    for seed, (batch, length) in enumerate([(1, 1), (3, 32), (2, 150)]):
        ids, mask = tokens(model, batch, length, seed)
        expected = model(input_ids=ids, attention_mask=mask).last_hidden_state.numpy()
        actual = run(path, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
        if actual.shape != expected.shape:
            raise RuntimeError(f"[{batch}, {length}] tokens gave {actual.shape}, not {expected.shape}")
        error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
        print(f"[{batch}, {length}] tokens: relative error {error:.1e}")
        if not error <= BOUND:
            raise RuntimeError(f"[{batch}, {length}] tokens: relative error {error:.1e}, at most {BOUND:.0e} allowed")


def export(model, path, ready_mask, dynamo):
    example = tokens(model, 2, 11, 99)
    how = {"dynamo": True, "external_data": False} if dynamo else {"dynamo": False}
    torch.onnx.export(
        Encoder(model, ready_mask).eval(),
        example,
        path,
        input_names=INPUTS,
        output_names=[OUTPUT],
        dynamic_axes=AXES,
        opset_version=18 if dynamo else OPSET,
        **how,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder of a model in the diffusers layout")
    parser.add_argument("out", help="the ONNX file to write")
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    folder = os.path.join(args.model, "text_encoder")
    model = UMT5EncoderModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    part = args.out + ".part"
    # Which of them works depends on the versions of torch and transformers; the check decides.
    for dynamo, ready_mask in [(False, True), (False, False), (True, False)]:
        try:
            export(model, part, ready_mask, dynamo)
            check(part, model)
        except Exception as error:
            print(f"dynamo={dynamo}, ready_mask={ready_mask} failed: {error!r}", file=sys.stderr)
            continue
        os.replace(part, args.out)
        print(f"{args.out}: {os.path.getsize(args.out)} bytes")
        return
    if os.path.exists(part):
        os.remove(part)
    sys.exit(f"the text encoder in {folder} could not be exported; see above")


if __name__ == "__main__":
    main()
