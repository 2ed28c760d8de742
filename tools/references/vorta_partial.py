"""vorta_partial: routed inference on a grid that neither tiles nor buckets of 2×3×2 divide.

The authors' code refuses such a grid. Here its functions are given what they take: sliding tiles a grid padded up to
whole tiles, whose padding no query sees; the core-set the part of the grid that whole buckets fill, while every token
outside of it stays a token of its own. Comes after vorta_routing, whose models it uses.
"""
import math

import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import create_block_mask

import vorta_routing
import vorta_source
from common import DEVICE

GRID, TILE, WINDOW, BUCKET = (5, 7, 9), (2, 2, 4), (3, 3, 1), (2, 3, 2)
CONFIG = dict(
    lowres_window_size=BUCKET, lowres_reduction_rate=0.5, window_size=WINDOW, tile_size=TILE, latent_shape=GRID,
)
#: Two by two latents are a token.
LATENTS = (1, 16, GRID[0], 2 * GRID[1], 2 * GRID[2])
PADDED = tuple(math.ceil(length / tile) * tile for length, tile in zip(GRID, TILE))


def padded(x):
    """[batch, heads, tokens, dim]: zeros up to whole tiles."""
    axes = [(0, whole - length) for length, whole in zip(GRID, PADDED)]
    return F.pad(x.unflatten(2, GRID), [0, 0, *axes[2], *axes[1], *axes[0]]).flatten(2, 4)


def cropped(x):
    """The inverse of `padded`."""
    frames, rows, columns = GRID
    return x.unflatten(2, PADDED)[:, :, :frames, :rows, :columns].flatten(2, 4)


def sliding_mask():
    """The authors' mask over the padded grid, without keys that are padding."""
    mask = vorta_source.create_sliding_tile_attn_mask_func(PADDED, WINDOW, TILE, 0, 0, torch.device(DEVICE))
    whole = padded(torch.ones(1, 1, math.prod(GRID), 1, device=DEVICE))
    real = vorta_source.tile_layout(whole, 1, TILE, PADDED, head_dim=1).flatten() > 0
    length = math.prod(PADDED)
    return create_block_mask(
        lambda b, h, q, k: mask.mask_mod(b, h, q, k) & real[k], None, None, length, length, device=DEVICE,
    )


def sliding(q, k, v, attention, tile_size, latent_shape, head_dim):
    """In place of the authors' function of this name, which it calls."""
    assert tuple(latent_shape) == GRID
    return cropped(vorta_source.sliding_tile_flex_attn(
        *map(padded, (q, k, v)), attention, tile_size=tile_size, latent_shape=PADDED, head_dim=head_dim,
    ))


class CoreSet:
    """In place of the authors' functions that choose tokens and spread them, which it calls."""

    def __init__(self):
        info = vorta_source.get_group_info(GRID, BUCKET, 0.5, torch.device(DEVICE))
        inside = torch.cat([info.center_indices, info.margin_indices], 1).flatten()
        self.inside = inside.sort().values
        outside = torch.ones(math.prod(GRID), dtype=torch.bool, device=DEVICE)
        outside[inside] = False
        self.outside = outside.nonzero().flatten()

    def pool(self, x, info, matching_results=None):
        pooled, matching = vorta_source.pool_sequence_by_similarity(x, info, matching_results)
        return torch.cat([pooled, x[:, :, self.outside]], 2), matching

    def unpool(self, pooled, info, matching_results):
        # Theirs counts tokens as if there were none outside.
        counted = type(info)(
            torch.searchsorted(self.inside, info.center_indices), torch.searchsorted(self.inside, info.margin_indices),
            info.num_unpooled_tokens_per_group,
        )
        inside, outside = pooled.split([pooled.shape[2] - len(self.outside), len(self.outside)], 2)
        batch, heads, _, dim = pooled.shape
        out = pooled.new_empty(batch, heads, math.prod(GRID), dim)
        out[:, :, self.inside] = vorta_source.unpool_sequence_by_similarity(inside, counted, matching_results)
        out[:, :, self.outside] = outside
        return out


def routes(model, temb, threshold):
    """How many heads take each branch."""
    scores = torch.cat([block.router(temb)[0] for block in model.blocks])
    best, branch = scores.max(-1)
    return torch.bincount(branch.masked_fill(best < threshold, 0), minlength=3).tolist()


@torch.no_grad()
def make(references):
    model = vorta_routing.routed_model(references)
    vorta_source.apply_vorta_transformer(model, train_router=False)
    for block in model.blocks:
        block.attn1.processor.check_input = False
    core_set, theirs = CoreSet(), vorta_source.vorta.attention.wan
    theirs.sliding_tile_flex_attn = sliding
    theirs.pool_sequence_by_similarity, theirs.unpool_sequence_by_similarity = core_set.pool, core_set.unpool
    inputs, _ = vorta_routing.make_inputs(references, LATENTS, offset=33)
    arguments = dict(
        lowres_group_info=vorta_source.get_group_info(GRID, BUCKET, 0.5, torch.device(DEVICE)),
        flex_attn_mask_func=sliding_mask(), window_size=WINDOW, tile_size=TILE, latent_shape=GRID,
    )
    tensors = {**inputs, **vorta_routing.router_tensors(model, "")}
    temb = model.condition_embedder(inputs["timestep"], inputs["encoder_hidden_states"])[0]
    for threshold in vorta_routing.THRESHOLDS:
        output, *_ = model(**inputs, self_attention_kwargs={**arguments, "tau_sparse": threshold}, return_dict=False)
        tensors[f"output.tau{threshold}"] = output
        print(f"τ {threshold}: {routes(model, temb, threshold)} heads are full, core-set, sliding")
    references.save("vorta_partial", tensors, {"config": CONFIG, "inputs": "vorta_partial.safetensors"})
