"""Makes veda_second_order.safetensors: scores that estimate the logarithm of mass, untrained and with projections.

`scores.*` are in float64, by definition; `authors.*` are by the code of Veda's authors (`veda-sparse/Miowtion`) in
float32, with their second-order head at full rank, as they start it, and with their count term. `mass` is the logarithm
of the sum of exp(q·k/√D) over each pair of tiles. MIOWTION_SRC names the folder that holds their package.

usage: veda_second_order.py OUT_DIR [--seed 300]
"""
import argparse
import math
import os
import sys

import torch

import veda

GRID, TILE, HEADS, DIM = (5, 6, 9), (2, 4, 8), 2, 16

# Their tiles hold 128 tokens, or 64 if this is set before they are imported.
os.environ["MIOWTION_TILE_SIZE"] = str(math.prod(TILE))
if "MIOWTION_SRC" in os.environ:
    sys.path.insert(0, os.environ["MIOWTION_SRC"])

from miowtion.veda import predictor, tiling  # noqa: E402


def by_definition(q, k, projections, cut):
    """Scores [heads, tiles, tiles] of q and k [heads, tokens, dim], term by term."""
    vectors = []
    for x, projection in zip((q, k), projections):
        features = veda.features(x, cut)
        vectors.append(features @ projection + features[..., :DIM])
    scores = vectors[0] @ vectors[1].transpose(1, 2) / math.sqrt(DIM)
    for i in range(cut.count):
        squares = (q[:, cut.tokens(i)] ** 2).mean(1)
        for j in range(cut.count):
            variance = k[:, cut.tokens(j)].var(1, correction=0)
            scores[:, i, j] += (squares * variance).sum(-1) / (2 * DIM) + math.log(int(cut.valid[j]))
    return scores


def log_mass(q, k, cut):
    """What the scores estimate, less the logarithm of the number of queries."""
    logits = veda.logits_of(q, k)
    out = torch.empty(HEADS, cut.count, cut.count)
    for i in range(cut.count):
        for j in range(cut.count):
            block = logits[:, cut.tokens(i)][:, :, cut.tokens(j)].flatten(1)
            out[:, i, j] = torch.logsumexp(block, -1) - math.log(int(cut.valid[i]))
    return out


def frames_first(span):
    """Their tiles in our order: frames, rows, columns, where theirs is rows, columns, frames."""
    frames, rows, columns = (-(-length // step) for length, step in zip(GRID, TILE))
    numbers = torch.arange(frames * rows * columns).view(rows, columns, frames).permute(2, 0, 1).flatten()
    return tiling.span_tiles(span)[numbers]


def by_the_authors(q, k, projections):
    """The same by their predictor, in float32."""
    tokens = math.prod(GRID)
    layout = tiling.build_tile_layout([tiling.TiledSpan(0, GRID, tiling.TileShape(*TILE))], tokens, tokens,
                                      tiler=frames_first)
    q, k = (tiling.gather_tiles(x.float().transpose(0, 1).contiguous(), layout, None) for x in (q, k))
    module = predictor.TileScorePredictor(1, HEADS, DIM, second_order_rank=DIM, count_term=True).float()
    module.init_exact_second_order_()
    with torch.no_grad():
        module.layers[0].proj_q.copy_(projections[0])
        module.layers[0].proj_k.copy_(projections[1])
        return module.scores(0, q, k, layout, torch.arange(HEADS))


def correlation(a, b):
    """Mean over rows of the correlation along a row."""
    a, b = (x - x.mean(-1, keepdim=True) for x in (a, b))
    return float(((a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))).mean())


def main():
    parser = argparse.ArgumentParser(description="Makes veda_second_order.safetensors.")
    parser.add_argument("out", help="the folder to write to")
    parser.add_argument("--seed", type=int, default=300)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    torch.set_default_dtype(torch.float64)
    draw, cut = veda.Draw(args.seed), veda.Tiling(GRID, TILE)
    q, k, _ = veda.smooth_qkv(draw, GRID, HEADS, DIM, axes=1.0, frequency=0.5, signal=1.2, noise=0.6)
    trained = [veda.rounded(draw(HEADS, 3 * DIM, DIM) * 0.05) for _ in range(2)]
    out = {"q": q, "k": k, "project.q": trained[0], "project.k": trained[1]}
    agree = True
    for name, projections in ("untrained", [torch.zeros_like(p) for p in trained]), ("trained", trained):
        scores, theirs = by_definition(q, k, projections, cut), by_the_authors(q, k, projections)
        error = float((theirs.double() - scores).norm() / scores.norm())
        agree &= error < 1e-6
        print(f"{name}: the authors' scores differ from the definition by {error:.1e}")
        out[f"scores.{name}"], out[f"authors.{name}"] = scores, theirs
    means = veda.features(q, cut)[..., :DIM] @ veda.features(k, cut)[..., :DIM].transpose(1, 2) / math.sqrt(DIM)
    mass = log_mass(q, k, cut)
    print(f"correlation with the logarithm of mass along rows: {correlation(out['scores.untrained'], mass):.3f}, "
          f"of means alone {correlation(means, mass):.3f}")
    veda.save(os.path.join(args.out, "veda_second_order.safetensors"), out, {"grid": GRID, "tile": TILE})
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
