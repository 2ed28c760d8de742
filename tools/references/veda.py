"""Makes veda_*.safetensors: a plain reference of Veda's tile selection, written from the paper's description.

In float64 on the CPU, with loops where the program under test has none. Runs on Debian's python3-torch.

usage: veda.py OUT_DIR [--seed 100]
"""
import argparse
import itertools
import json
import math
import os
import struct

import torch

DTYPE_NAMES = {torch.float32: "F32", torch.int32: "I32", torch.uint8: "U8"}


def stored(tensor):
    """A tensor as it is stored: float32, uint8 (of bool) or int32."""
    tensor = tensor.detach().contiguous()
    if tensor.is_floating_point():
        return tensor.float()
    return tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor.int()


def save(path, tensors, metadata):
    """Writes safetensors by hand, as Debian has no such package: header's length, JSON header, raw data.

    Metadata's values are JSON, since the format only knows strings.
    """
    header = {"__metadata__": {key: json.dumps(value) for key, value in metadata.items()}}
    parts, offset = [], 0
    for name, tensor in tensors.items():
        tensor = stored(tensor)
        data = tensor.numpy().tobytes()
        offsets = [offset, offset + len(data)]
        header[name] = {"dtype": DTYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        parts.append(data)
        offset += len(data)
    text = json.dumps(header).encode()
    # The data begins at a multiple of 8 bytes.
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(parts))


class Draw:
    """Normal numbers that fit float32, so that what is stored is what was computed with."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape):
        return rounded(torch.randn(*shape, generator=self.generator))


def rounded(tensor):
    """Rounds float64 to what float32 can hold."""
    return tensor.float().double()


def positions(grid):
    """[tokens, 3]: time, row and column of every token, in raster order."""
    axes = torch.meshgrid(*[torch.arange(size).double() for size in grid], indexing="ij")
    return torch.stack(axes, -1).reshape(-1, 3)


def smooth_qkv(draw, grid, heads, dim, axes, frequency, signal, noise):
    """Queries, keys and values [heads, tokens, dim].

    Queries and keys are noise over waves they share, so that attention has the locality that a video's has. `axes`
    ([heads, 3, 1], or 1) times `frequency`: how fast the waves change along time, rows and columns.
    """
    place = positions(grid)
    tokens = place.shape[0]
    waves = draw(heads, 3, dim) * axes * frequency
    base = torch.cos(torch.einsum("sc,hcd->hsd", place, waves) + draw(heads, 1, dim))
    q = rounded(base * signal + draw(heads, tokens, dim) * noise)
    k = rounded(base * signal + draw(heads, tokens, dim) * noise)
    return q, k, draw(heads, tokens, dim)


class Tiling:
    """A grid [time, rows, columns] cut into tiles, those at its far edges perhaps partial.

    gather  [tiles, tokens of a whole tile]: indices into the raster sequence, then -1 where a tile is partial
    valid   [tiles]: how many tokens a tile has
    tile_of [tokens]: the tile that a token lies in
    """

    def __init__(self, grid, tile):
        self.capacity = math.prod(tile)
        corners = itertools.product(*[range(0, size, step) for size, step in zip(grid, tile)])
        rows = [self._indices(grid, tile, corner) for corner in corners]
        self.gather = torch.tensor([row + [-1] * (self.capacity - len(row)) for row in rows])
        self.valid = (self.gather >= 0).sum(1)
        self.count = len(rows)
        self.tile_of = torch.empty(math.prod(grid), dtype=torch.long)
        for i in range(self.count):
            self.tile_of[self.tokens(i)] = i

    @staticmethod
    def _indices(grid, tile, corner):
        """Raster indices of the tile that begins at `corner`."""
        ranges = [range(begin, min(begin + step, size)) for begin, step, size in zip(corner, tile, grid)]
        return [(t * grid[1] + h) * grid[2] + w for t, h, w in itertools.product(*ranges)]

    def tokens(self, i):
        """Indices of tile i's tokens."""
        return self.gather[i, :self.valid[i]]

    def spread(self, mask):
        """A mask of tiles [heads, tiles, tiles] -> of tokens [heads, tokens, tokens]."""
        return mask[:, self.tile_of][:, :, self.tile_of]


def features(x, tiling):
    """x [heads, tokens, dim] -> [heads, tiles, 3 dim]: mean, maximum and minimum over each tile's tokens."""
    out = []
    for i in range(tiling.count):
        rows = x[:, tiling.tokens(i)]
        out.append(torch.cat([rows.mean(1), rows.max(1).values, rows.min(1).values], -1))
    return torch.stack(out, 1)


def heat_maps(probabilities, tiling):
    """Attention [heads, tokens, tokens] -> its maximum and its sum over each pair of tiles [heads, tiles, tiles]."""
    shape = (probabilities.shape[0], tiling.count, tiling.count)
    maximum, total = torch.zeros(shape), torch.zeros(shape)
    for i, j in itertools.product(range(tiling.count), repeat=2):
        block = probabilities[:, tiling.tokens(i)][:, :, tiling.tokens(j)]
        maximum[:, i, j] = block.amax((1, 2))
        total[:, i, j] = block.sum((1, 2))
    return maximum, total


def budget(ratio, tokens, capacity, tiles):
    """How many key tiles each query tile keeps.

    Full attention over whole tiles would take ceil(tokens / capacity)² pairs; `ratio` of them is shared out evenly,
    what is left of the division by carrying it from row to row.
    """
    per_row = ratio * math.ceil(tokens / capacity) ** 2 / tiles
    if per_row >= tiles:
        return [tiles] * tiles
    low = max(1, math.floor(per_row))
    high = min(low + 1, tiles)
    fraction = round(max(per_row - low, 0.0), 12)
    carries = [math.floor((row + 1) * fraction) > math.floor(row * fraction) for row in range(tiles)]
    return [high if carry else low for carry in carries]


def select(scores, keep):
    """The mask of the `keep[row]` best key tiles of each row of scores [heads, tiles, tiles].

    The diagonal is always kept and counts towards the budget. Ties go to the lower index.
    """
    tiles = scores.shape[1]
    scores = scores.clone()
    scores[:, range(tiles), range(tiles)] = math.inf
    order = torch.sort(scores, dim=-1, descending=True, stable=True).indices
    mask = torch.zeros_like(scores, dtype=torch.bool)
    for row in range(tiles):
        mask[:, row].scatter_(1, order[:, row, :keep[row]], True)
    return mask


def logits_of(q, k):
    """Scaled products [heads, tokens, tokens]."""
    return q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])


def attend(logits, v, mask):
    """Attention over the pairs of tokens in `mask`."""
    return torch.softmax(logits.masked_fill(~mask, -math.inf), -1) @ v


def relative_error(out, full):
    """||out - full||² / ||full||² over everything."""
    return ((out - full) ** 2).sum() / (full ** 2).sum()


def predictor_gradients(scores, heat, projections):
    """KL divergence of the predicted rows from the heat map's, and its gradients by both projections."""
    target = heat / heat.sum(-1, keepdim=True)
    divergence = target * (target.log() - torch.log_softmax(scores, -1))
    loss = divergence.sum(-1).mean(-1).mean()
    return loss, *torch.autograd.grad(loss, projections, retain_graph=True)


def recall_of(predicted, oracle):
    """The share of the oracle's tiles off the diagonal that were predicted."""
    chosen = oracle & ~torch.eye(oracle.shape[1], dtype=torch.bool)
    return ((predicted & chosen).sum() / chosen.sum().clamp(min=1)).double()


def tensors_of(grid, tile, heads, dim, ratio, seed):
    """One layer's predictor: features, scores, heat maps, losses and gradients, selection, sparse attention."""
    draw = Draw(seed)
    q, k, v = smooth_qkv(draw, grid, heads, dim, axes=1.0, frequency=0.5, signal=1.2, noise=0.6)
    tiling = Tiling(grid, tile)
    logits = logits_of(q, k)
    lse = torch.logsumexp(logits, -1)
    probabilities = torch.exp(logits - lse[..., None])
    full = probabilities @ v
    heat = dict(zip(("max", "sum"), heat_maps(probabilities, tiling)))

    features_q, features_k = features(q, tiling), features(k, tiling)
    project_q = rounded(draw(heads, 3 * dim, dim) * 0.05).requires_grad_()
    project_k = rounded(draw(heads, 3 * dim, dim) * 0.05).requires_grad_()
    # The projections add to the mean.
    predicted_q = features_q @ project_q + features_q[..., :dim]
    predicted_k = features_k @ project_k + features_k[..., :dim]
    scores = logits_of(predicted_q, predicted_k)
    out = {
        "q": q, "k": k, "v": v, "gather": tiling.gather, "valid": tiling.valid,
        "features.q": features_q, "features.k": features_k, "project.q": project_q, "project.k": project_k,
        "scores": scores, "heat.max": heat["max"], "heat.sum": heat["sum"], "lse": lse, "full": full,
    }
    for name, target in heat.items():
        loss, gradient_q, gradient_k = predictor_gradients(scores, target, (project_q, project_k))
        out[f"kl.{name}"] = loss
        out[f"grad.{name}.project.q"] = gradient_q
        out[f"grad.{name}.project.k"] = gradient_k

    keep = budget(ratio, math.prod(grid), tiling.capacity, tiling.count)
    predicted, oracle = select(scores.detach(), keep), select(heat["max"], keep)
    sparse_predicted = attend(logits, v, tiling.spread(predicted))
    sparse_oracle = attend(logits, v, tiling.spread(oracle))
    out["keep"] = torch.tensor(keep)
    out["mask.predicted"] = predicted
    out["mask.oracle"] = oracle
    out["sparse.predicted"] = sparse_predicted
    out["sparse.oracle"] = sparse_oracle
    out["error.predicted"] = relative_error(sparse_predicted, full)
    out["error.oracle"] = relative_error(sparse_oracle, full)
    out["recall"] = recall_of(predicted, oracle)
    return out


def case(path, grid, tile, **settings):
    """Writes one layer's tensors."""
    out = tensors_of(grid=grid, tile=tile, **settings)
    save(path, out, {"grid": grid, "tile": tile, "ratio": settings["ratio"]})
    partial = int((out["valid"] < math.prod(tile)).sum())
    print(f"{path}: {len(out['valid'])} tiles, {partial} partial, recall {float(out['recall']):.3f}")


def search(path, grid, capacity, shapes, heads, dim, ratio, seed):
    """The tile search's table: the oracle's error with each shape of tile, head by head, and each head's best."""
    # Heads look mostly along time, along rows, along columns, and evenly.
    axes = torch.tensor([[1.5, 0.2, 0.2], [0.2, 1.5, 0.2], [0.2, 0.2, 1.5], [0.6, 0.6, 0.6]])[:heads, :, None]
    q, k, v = smooth_qkv(Draw(seed), grid, heads, dim, axes, frequency=0.6, signal=1.5, noise=0.4)
    logits = logits_of(q, k)
    probabilities = torch.softmax(logits, -1)
    full = probabilities @ v
    error = torch.zeros(len(shapes), heads)
    for i, shape in enumerate(shapes):
        tiling = Tiling(grid, shape)
        heat, _ = heat_maps(probabilities, tiling)
        mask = select(heat, budget(ratio, math.prod(grid), capacity, tiling.count))
        sparse = attend(logits, v, tiling.spread(mask))
        error[i] = ((sparse - full) ** 2).sum((1, 2)) / (full ** 2).sum((1, 2))
    best = error.argmin(0)
    save(path, {"q": q, "k": k, "v": v, "error": error, "best": best}, {"grid": grid, "shapes": shapes, "ratio": ratio})
    print(f"{path}: best shapes {best.tolist()}")


def main():
    parser = argparse.ArgumentParser(description="Makes veda_*.safetensors.")
    parser.add_argument("out", help="the folder to write to")
    parser.add_argument("--seed", type=int, default=100)
    args = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    os.makedirs(args.out, exist_ok=True)

    def path(name):
        return os.path.join(args.out, f"veda_{name}.safetensors")

    case(path("a"), grid=(4, 6, 10), tile=(2, 4, 4), heads=3, dim=32, ratio=0.3, seed=args.seed + 1)
    case(path("b"), grid=(5, 8, 8), tile=(1, 8, 8), heads=2, dim=64, ratio=0.45, seed=args.seed + 2)
    case(path("c"), grid=(7, 9, 11), tile=(4, 4, 8), heads=2, dim=128, ratio=0.9, seed=args.seed + 3)
    shapes = [(1, 4, 4), (4, 2, 2), (2, 2, 4), (2, 4, 2), (1, 2, 8), (4, 4, 1), (1, 8, 2)]
    search(path("search"), (8, 8, 8), capacity=16, shapes=shapes, heads=4, dim=32, ratio=0.2, seed=args.seed + 4)


if __name__ == "__main__":
    main()
