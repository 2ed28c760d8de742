"""Compares what `fastwan.py` computes for video sparse attention with FastVideo's own kernels, which Triton interprets on
a CPU. They are for bf16. Wants FASTVIDEO_SRC, the folder that holds `fastvideo-kernel`. usage: fastwan_kernels.py
"""
import importlib
import os
import sys
import types

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter

from fastwan import video_sparse_attn

#: Rows that count of each tile of 64: some tiles are partial.
SIZES, HEADS, DIM, TOPK = [64, 64, 48, 64, 64, 48, 32, 32, 24], 2, 64, 4


def import_kernels():
    """FastVideo's modules of kernels, without what `import fastvideo_kernel` itself would run."""
    folder = os.path.join(os.environ["FASTVIDEO_SRC"], "fastvideo-kernel/python/fastvideo_kernel")
    for name, path in (("fastvideo_kernel", folder), ("fastvideo_kernel.triton_kernels", f"{folder}/triton_kernels")):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [path]
    return [
        importlib.import_module(f"fastvideo_kernel.triton_kernels.{name}")
        for name in ("fused_compress_topk", "index", "block_sparse_attn_triton")
    ]


def multiply_bf16():
    """Triton's interpreter (3.8) holds bf16 as integers, and its matrix product multiplies these."""
    handle = interpreter.TensorHandle

    def wide(x):
        return (x.data.astype(np.uint32) << 16).view(np.float32) if x.dtype.scalar == tl.bfloat16 else x.data

    interpreter.InterpreterBuilder.create_dot = lambda self, a, b, d, *_: handle(wide(a) @ wide(b) + d.data, d.dtype.scalar)


def by_kernels(q, k, v, sizes, topk):
    """The coarse part, the tiles that are kept, and the sparse part, put together as in FastVideo's `ops.py`."""
    multiply_bf16()
    compress, index, sparse = import_kernels()
    # One configuration: choosing among several wants a GPU.
    sparse._attn_fwd_sparse.configs = sparse._attn_fwd_sparse.configs[:1]
    means = [compress.fused_block_mean(x, sizes, 64) for x in (q, k, v)]
    scores = torch.matmul(means[0], means[1].mT) / DIM**0.5
    coarse = torch.matmul(torch.softmax(scores, dim=-1), means[2]).repeat_interleave(64, 2)
    mask = compress.fused_topk_mask(scores, topk)
    kept, counts = index.map_to_index(mask)
    return coarse, mask, sparse.triton_block_sparse_attn_forward(q, k, v, kept, counts, sizes)[0]


def main():
    sizes, generator = torch.tensor(SIZES, dtype=torch.int32), torch.Generator().manual_seed(100)
    real = (torch.arange(64) < sizes.view(-1, 1)).flatten()
    draw = lambda: torch.randn(1, HEADS, 64 * len(SIZES), DIM, generator=generator) * real.view(-1, 1)
    q, k, v, gate = (draw().bfloat16() for _ in range(4))
    coarse, mask, sparse = by_kernels(q, k, v, sizes, TOPK)
    theirs = (coarse * gate + sparse)[:, :, real].double()
    ours = video_sparse_attn(*(x.double() for x in (q, k, v)), sizes, sizes, TOPK, (4, 4, 4), gate.double())[:, :, real]
    error = ((theirs - ours).norm() / ours.norm()).item()
    print(f"tiles kept by each: {mask.sum(-1).unique().tolist()}, relative error {error:.1e}")
    assert error < 1e-2, "more than bf16 rounds"


if __name__ == "__main__":
    main()
