"""vorta_attention_{a,b,c}: the three attention branches by the VORTA authors' code, on random q, k, v."""
from functools import partial

import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import flex_attention

import vorta_source
from common import DEVICE

CASES = {
    "a": dict(
        grid=(8, 8, 8), coreset_window=(2, 2, 2), tile=(2, 2, 2), sliding_window=(3, 3, 3), heads=3, head_dim=32,
    ),
    "b": dict(
        grid=(4, 12, 16), coreset_window=(2, 3, 2), tile=(2, 4, 4), sliding_window=(1, 3, 3), heads=2, head_dim=64,
    ),
    "c": dict(
        grid=(6, 8, 16), coreset_window=(2, 2, 4), tile=(2, 4, 4), sliding_window=(3, 1, 3), heads=2, head_dim=128,
    ),
}
REDUCTION_RATE = 0.5


def coreset_branch(q, k, v, grid, window):
    """Attention among representatives. Returns the output, the pooled queries, and which tokens were kept."""
    groups = vorta_source.get_group_info(grid, window, reduction_rate=REDUCTION_RATE, device=torch.device(DEVICE))
    pooled_q, matching = vorta_source.pool_sequence_by_similarity(q, groups)
    pooled_k, _ = vorta_source.pool_sequence_by_similarity(k, groups, matching)
    pooled_v, _ = vorta_source.pool_sequence_by_similarity(v, groups, matching)
    pooled = F.scaled_dot_product_attention(pooled_q, pooled_k, pooled_v)
    output = vorta_source.unpool_sequence_by_similarity(pooled, groups, matching)
    return output, pooled_q, matching.unpooled_argsort_sim.int()


def sliding_branch(attention, q, k, v, grid, tile, window):
    """Attention among tiles near each other."""
    mask = vorta_source.create_sliding_tile_attn_mask_func(grid, window, tile, 0, 0, torch.device(DEVICE))
    attention = partial(attention, block_mask=mask)
    return vorta_source.sliding_tile_flex_attn(q, k, v, attention, tile_size=tile, latent_shape=grid, head_dim=1)


def reference(references, attention, name, grid, coreset_window, tile, sliding_window, heads, head_dim):
    """All branches of one case."""
    tokens = grid[0] * grid[1] * grid[2]
    q, k, v = (references.randn(20 + i, 1, heads, tokens, head_dim).to(DEVICE) for i in range(3))
    coreset, pooled_q, kept = coreset_branch(q, k, v, grid, coreset_window)
    tensors = {
        "q": q, "k": k, "v": v,
        "full": F.scaled_dot_product_attention(q, k, v),
        "coreset": coreset, "coreset.pooled_q": pooled_q, "coreset.kept": kept,
        "sliding": sliding_branch(attention, q, k, v, grid, tile, sliding_window),
    }
    metadata = {
        "grid": grid, "coreset_window": coreset_window, "reduction_rate": REDUCTION_RATE, "tile": tile,
        "sliding_window": sliding_window,
    }
    references.save(f"vorta_attention_{name}", tensors, metadata)


def make(references):
    attention = torch.compile(flex_attention, dynamic=False)
    for name, case in CASES.items():
        reference(references, attention, name, **case)
