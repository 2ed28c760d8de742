"""Makes veda_authors.safetensors: Veda's tile selection by its authors' own code (`veda-sparse/Miowtion`), and says how
far veda.py is from it.

MIOWTION_SRC names the folder that holds their package. In float32 on the CPU, on inputs of veda.py's.

usage: veda_authors.py OUT_DIR [--seed 100]
"""
import argparse
import math
import os
import sys

import torch

import veda

GRID, TILE, HEADS, DIM, RATIO = (5, 7, 12), (2, 4, 8), 2, 32, 0.9

# Their tiles hold 128 tokens, or 64 if this is set before they are imported.
os.environ["MIOWTION_TILE_SIZE"] = str(math.prod(TILE))
if "MIOWTION_SRC" in os.environ:
    sys.path.insert(0, os.environ["MIOWTION_SRC"])

from miowtion.kernels.reference import block_sparse_attention  # noqa: E402
from miowtion.veda import heatmap, mask, predictor, tiling  # noqa: E402


def frames_first(span):
    """Their tiles in our order: frames, rows, columns, where theirs is rows, columns, frames.

    A tile's number decides which rows of the mask get the tile that is left over by the division, nothing else.
    """
    frames, rows, columns = (-(-length // step) for length, step in zip(GRID, TILE))
    numbers = torch.arange(frames * rows * columns).view(rows, columns, frames).permute(2, 0, 1).flatten()
    return tiling.span_tiles(span)[numbers]


def clip_layout():
    """The whole sequence is one clip, so that there are no global tiles."""
    tokens = math.prod(GRID)
    span = tiling.TiledSpan(0, GRID, tiling.TileShape(*TILE))
    return tiling.build_tile_layout([span], tokens, tokens, tiler=frames_first)


def by_the_authors(q, k, v, projections):
    """Everything that a reference of veda.py has, from q, k, v [heads, tokens, dim]."""
    layout = clip_layout()
    heads = torch.arange(HEADS)
    # They want [slots, heads, dim], tile by tile, zeros in slots that are no token.
    tiled = [tiling.gather_tiles(x.transpose(0, 1).contiguous(), layout, None) for x in (q, k, v)]
    tokens_of = lambda x: x.transpose(0, 1)[:, torch.argsort(layout.perm)[-math.prod(GRID):]]

    module = predictor.TileScorePredictor(1, HEADS, DIM)
    layer = module.layers[0]
    with torch.no_grad():
        layer.proj_q.copy_(projections[0])
        layer.proj_k.copy_(projections[1])
    scores = module.scores(0, tiled[0], tiled[1], layout, heads)

    every = torch.ones(HEADS, layout.n_tiles, layout.n_tiles, dtype=torch.bool)
    full, lse = block_sparse_attention(*tiled, every, layout.valid_count, return_lse=True)
    lse = lse.transpose(0, 1).masked_fill(layout.perm[:, None] < 0, 0.0)
    query_tiles = torch.arange(layout.n_tiles)
    heat = {
        name: heatmap.teacher_heat_reference(tiled[0], tiled[1], lse, layout, query_tiles, reduce=name)
        for name in ("max", "sum")
    }
    out = {
        "q": q, "k": k, "v": v, "gather": layout.perm.view(layout.n_tiles, -1), "valid": layout.valid_count,
        "features.q": predictor.pool_tiles(tiled[0], layout), "features.k": predictor.pool_tiles(tiled[1], layout),
        "project.q": projections[0], "project.k": projections[1], "scores": scores,
        "heat.max": heat["max"], "heat.sum": heat["sum"], "lse": tokens_of(lse[..., None])[..., 0],
        "full": tokens_of(full),
    }
    for name, target in heat.items():
        loss = heatmap.seer_kl(scores, target, layout)
        gradients = torch.autograd.grad(loss, (layer.proj_q, layer.proj_k), retain_graph=True)
        out[f"kl.{name}"], out[f"grad.{name}.project.q"], out[f"grad.{name}.project.k"] = loss, *gradients

    blocks = mask.column_blocks(layout, mask.Budget(ratio=RATIO))
    for name, by in ("predicted", scores.detach()), ("oracle", heat["max"]):
        selection = mask.select_video_blocks(by, layout, blocks)
        out[f"mask.{name}"] = mask.dense_block_mask(selection, layout)
        sparse = block_sparse_attention(*tiled, out[f"mask.{name}"], layout.valid_count)
        out[f"sparse.{name}"] = tokens_of(sparse)
        out["keep"] = mask.kept_tiles_per_row(selection)[0]
    out["recall"] = heatmap.mask_diagnostics(scores.detach(), heat["max"], layout, blocks, query_tiles)["recall"]
    return {name: tensor.detach() for name, tensor in out.items()}


def compare(ours, theirs):
    """Prints how far apart the two references are. Returns whether they agree."""
    agree = True
    for name, expected in ours.items():
        if name not in theirs:
            continue
        value, expected = theirs[name], expected.detach()
        if expected.is_floating_point():
            error = float((value.double() - expected).norm() / expected.norm())
            shown, fine = f"{error:.1e}", error < 1e-5
        else:
            differing = int((value.long() != expected.long()).sum())
            shown, fine = f"{differing} differ", differing == 0
        agree &= fine
        print(f"{name:24} {shown}{'' if fine else '   DISAGREE'}")
    return agree


def main():
    parser = argparse.ArgumentParser(description="Makes veda_authors.safetensors.")
    parser.add_argument("out", help="the folder to write to")
    parser.add_argument("--seed", type=int, default=100)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    case = dict(grid=GRID, tile=TILE, heads=HEADS, dim=DIM, ratio=RATIO, seed=args.seed + 5)
    torch.set_default_dtype(torch.float64)
    ours = veda.tensors_of(**case)
    torch.set_default_dtype(torch.float32)
    q, k, v, project_q, project_k = (ours[name].detach().float() for name in ("q", "k", "v", "project.q", "project.k"))
    theirs = by_the_authors(q, k, v, (project_q, project_k))
    agree = compare(ours, theirs)
    # What full attention gives is no part of the case.
    del theirs["full"]
    path = os.path.join(args.out, "veda_authors.safetensors")
    veda.save(path, theirs, {"grid": GRID, "tile": TILE, "ratio": RATIO})
    print(f"{path}: recall {float(theirs['recall']):.3f}")
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
