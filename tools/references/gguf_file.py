"""A GGUF file with a tensor of every format that tilereel reads, and its numbers as ggml's own Python library decodes them.

usage: gguf_file.py DIR      needs gguf, numpy and safetensors (Debian: python3-gguf python3-safetensors)

Integers are random in all their bits; scales are of f16's normal and subnormal numbers, positive and negative.
"""

import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

# Where a block's f16 are.
HALVES = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
    Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
}


def main(folder: str) -> None:
    rng = np.random.default_rng(100)
    writer = gguf.GGUFWriter(f"{folder}/formats.gguf", "wan")
    writer.add_name("all formats")
    expected = {}
    for kind, halves in HALVES.items():
        block, size = gguf.GGML_QUANT_SIZES[kind]
        rows, blocks = 5, 768 // block
        data = rng.integers(0, 256, (rows, blocks, size), dtype=np.uint8)
        for at in halves:
            scale = (rng.standard_normal((rows, blocks)) * np.exp2(rng.integers(-20, -3, (rows, blocks)))).astype(np.float16)
            data[:, :, at:at + 2] = scale[..., None].view(np.uint8)
        data = data.reshape(rows, blocks * size)
        writer.add_tensor(f"{kind.name}.weight", data, raw_dtype=kind)
        expected[f"{kind.name}.weight"] = gguf.quants.dequantize(data, kind).reshape(rows, 768)
    for kind in (Type.F32, Type.F16, Type.BF16):
        values = rng.standard_normal((5, 768)).astype(np.float32)
        data = gguf.quants.quantize(values, kind)
        writer.add_tensor(f"{kind.name}.weight", data, raw_dtype=kind)
        expected[f"{kind.name}.weight"] = gguf.quants.dequantize(data, kind).reshape(5, 768)
    # As ComfyUI-GGUF stores a tensor of more axes than ggml has.
    patches = rng.standard_normal((6, 4, 1, 2, 2)).astype(np.float32)
    writer.add_array("comfy.gguf.orig_shape.patch_embedding.weight", list(patches.shape))
    writer.add_tensor("patch_embedding.weight", patches.reshape(6, 16))
    expected["patch_embedding.weight"] = patches
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(expected, f"{folder}/expected.safetensors")


main(sys.argv[1])
