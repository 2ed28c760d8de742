"""PyTorch on the same GPU, for scale: the same transformer in bf16 with dense attention and with flex_attention over tiles
of 128 tokens, its attention and its matrix products alone. The transformer is written here as diffusers has it
(WanTransformer3DModel), so that nothing but PyTorch is needed; --check holds it to diffusers' own output.

usage: torch_baseline.py [--shape small|1.3b|14b|tokens]... [--no-compile] [--save FILE]
       torch_baseline.py --check DIR      a model in the diffusers layout with reference.safetensors beside it

Times are of CUDA events (a wall clock on a CPU): warm-up, then the median; spread is (slowest - fastest) / median.
"""
import argparse
import contextlib
import json
import math
import signal
import struct
import sys
import time
from glob import glob

import torch
import torch.nn.functional as F
from torch import nn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EPS = 1e-6

#: heads, head dim, feed-forward, layers, channels of the text, tokens along frames, rows, columns, text tokens
SHAPES = {
    "small": dict(heads=4, head_dim=32, ffn=256, layers=2, text_dim=64, grid=(2, 4, 8), text=16),
    "1.3b": dict(heads=12, head_dim=128, ffn=8960, layers=30, text_dim=4096, grid=(21, 30, 52), text=512),
    "14b": dict(heads=40, head_dim=128, ffn=13824, layers=40, text_dim=4096, grid=(21, 45, 80), text=512),
}
#: Rows, columns, and what is added up.
GEMMS = {
    "small": [(64, 96, 128)],
    "1.3b": [(32760, 1536, 8960), (32760, 8960, 1536)],
    "14b": [(75600, 5120, 13824), (75600, 13824, 5120)],
}
#: The tokens of a tile of flex_attention, which is the block of its kernels.
TILE = 128
#: The shares of tiles that are kept, at which steps are timed; KEEPS[0] is also that of attention alone.
KEEPS = (0.1, 0.05, 0.2, 0.5)
#: Attention alone, 12 heads of 128, over the lengths of bench/figures/tokens.ts.
TOKENS = [7800, 17160, 32760, 75600, 118800, 244800]
#: At this length both shares of the issue's table are timed.
LONG = 75600
COMPILE_SECONDS = 60


class Norm(nn.RMSNorm if hasattr(nn, "RMSNorm") else nn.Module):
    """RMS norm across all heads of a token."""

    def __init__(self, dim):
        if hasattr(nn, "RMSNorm"):
            super().__init__(dim, eps=EPS)
        else:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        if hasattr(nn, "RMSNorm"):
            return super().forward(x)
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPS)).type_as(x) * self.weight


def layer_norm(x, weight=None, bias=None):
    """In float32, as diffusers' FP32LayerNorm."""
    as_float = lambda t: None if t is None else t.float()
    return F.layer_norm(x.float(), x.shape[-1:], as_float(weight), as_float(bias), EPS)


def attend(q, k, v):
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v)
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1) @ v


class KeptTiles:
    """flex_attention of each tile of queries to a share of the tiles of keys, chosen at random for every head."""

    def __init__(self, heads, tokens):
        from torch.nn.attention.flex_attention import BlockMask, flex_attention

        tiles = math.ceil(tokens / TILE)
        self.flex = flex_attention
        indices, none = (torch.zeros(1, heads, *size, dtype=torch.int32, device=DEVICE) for size in ((tiles, tiles), (tiles,)))
        # No tile is partly masked, so that none needs a mask's function.
        self.mask = BlockMask.from_kv_blocks(
            none, indices, none.clone(), indices.clone(), BLOCK_SIZE=TILE, seq_lengths=(tokens, tokens)
        )

    def keep(self, share):
        """Chooses the tiles, in place, so that nothing is compiled again; returns the share that is kept."""
        indices = self.mask.full_kv_indices
        kept = max(1, round(share * indices.shape[-1]))
        self.order = torch.rand(indices.shape, device=DEVICE).argsort(-1)[..., :kept].sort(-1).values
        indices[..., :kept] = self.order
        self.mask.full_kv_num_blocks.fill_(kept)
        return kept / indices.shape[-1]

    def __call__(self, q, k, v):
        return self.flex(q, k, v, block_mask=self.mask)

    def error(self, q, k, v, y):
        """The relative error of some tiles of the result against a softmax over the keys that are kept."""
        tokens, worst = k.shape[2], 0.0
        for head, tile in ((0, 0), (q.shape[1] - 1, self.mask.kv_num_blocks.shape[-1] // 2)):
            keys = (self.order[0, head, tile][:, None] * TILE + torch.arange(TILE, device=DEVICE)).flatten()
            keys = keys[keys < tokens]
            rows = slice(tile * TILE, min(tokens, (tile + 1) * TILE))
            scores = q[0, head, rows].float() @ k[0, head, keys].float().T / math.sqrt(q.shape[-1])
            expected = torch.softmax(scores, -1) @ v[0, head, keys].float()
            worst = max(worst, ((y[0, head, rows].float() - expected).norm() / expected.norm()).item())
        return worst


def rotate(x, cos, sin):
    """Pairs of neighbouring channels; x [batch, tokens, heads, head dim], cos and sin [tokens, 1, head dim / 2]."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).type_as(x)


def rope(head_dim, grid):
    space = 2 * (head_dim // 6)
    angles = []
    for axis, dim in enumerate((head_dim - 2 * space, space, space)):
        frequencies = 1 / 10000 ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        shape = [1, 1, 1, dim // 2]
        shape[axis] = grid[axis]
        angle = torch.outer(torch.arange(grid[axis], dtype=torch.float64), frequencies).reshape(shape)
        angles.append(angle.expand(*grid, dim // 2))
    angles = torch.cat(angles, -1).reshape(-1, 1, head_dim // 2)
    return angles.cos().float().to(DEVICE), angles.sin().float().to(DEVICE)


class Attention(nn.Module):
    """`attend` computes the attention itself; self-attention over kept tiles takes another."""

    attend = staticmethod(attend)

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.norm_q, self.norm_k = Norm(dim), Norm(dim)

    def forward(self, x, context, rotation=None):
        split = lambda t: t.unflatten(-1, (self.heads, -1))
        q, k, v = split(self.norm_q(self.to_q(x))), split(self.norm_k(self.to_k(context))), split(self.to_v(context))
        if rotation is not None:
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        y = self.attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.to_out[0](y.transpose(1, 2).flatten(2))


class Gelu(nn.Module):
    def __init__(self, dim, wide):
        super().__init__()
        self.proj = nn.Linear(dim, wide)

    def forward(self, x):
        return F.gelu(self.proj(x), approximate="tanh")


class FeedForward(nn.Module):
    def __init__(self, dim, wide):
        super().__init__()
        self.net = nn.Sequential(Gelu(dim, wide), nn.Identity(), nn.Linear(wide, dim))

    def forward(self, x):
        return self.net(x)


class Block(nn.Module):
    def __init__(self, dim, heads, ffn):
        super().__init__()
        self.attn1, self.attn2 = Attention(dim, heads), Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, ffn)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, dim) / math.sqrt(dim))

    def forward(self, x, text, time_embedding, rotation):
        """x [batch, tokens, dim]; text [batch, text tokens, dim]; time_embedding [batch, 6, dim]."""
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (self.scale_shift_table.float() + time_embedding.float()).chunk(6, 1)
        norm = (layer_norm(x) * (1 + scale) + shift).type_as(x)
        x = (x.float() + self.attn1(norm, norm, rotation) * gate).type_as(x)
        norm = layer_norm(x, self.norm2.weight, self.norm2.bias).type_as(x)
        x = x + self.attn2(norm, text)
        norm = (layer_norm(x) * (1 + ffn_scale) + ffn_shift).type_as(x)
        return (x.float() + self.ffn(norm).float() * ffn_gate).type_as(x)


class TimeText(nn.Module):
    def __init__(self, dim, text_dim):
        super().__init__()
        two = lambda wide: nn.ModuleDict({"linear_1": nn.Linear(wide, dim), "linear_2": nn.Linear(dim, dim)})
        self.time_embedder, self.time_proj, self.text_embedder = two(256), nn.Linear(dim, 6 * dim), two(text_dim)

    def forward(self, timestep, text):
        angles = timestep.float()[:, None] * torch.exp(-math.log(10000) * torch.arange(128, device=timestep.device) / 128)
        wave = torch.cat((angles.cos(), angles.sin()), -1).type_as(text)
        time, words = self.time_embedder, self.text_embedder
        temb = time["linear_2"](F.silu(time["linear_1"](wave)))
        return temb, self.time_proj(F.silu(temb)).unflatten(-1, (6, -1)), words["linear_2"](F.gelu(words["linear_1"](text), approximate="tanh"))


class Transformer(nn.Module):
    """WanTransformer3DModel for text to video, patches of 1x2x2, 16 channels."""

    def __init__(self, heads, head_dim, ffn, layers, text_dim, **_):
        super().__init__()
        dim = heads * head_dim
        self.head_dim = head_dim
        self.patch_embedding = nn.Conv3d(16, dim, (1, 2, 2), (1, 2, 2))
        self.condition_embedder = TimeText(dim, text_dim)
        self.blocks = nn.ModuleList([Block(dim, heads, ffn) for _ in range(layers)])
        self.proj_out = nn.Linear(dim, 64)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, dim) / math.sqrt(dim))

    def forward(self, latents, timestep, text, rotation):
        batch, _, *size = latents.shape
        grid = (size[0], size[1] // 2, size[2] // 2)
        x = self.patch_embedding(latents).flatten(2).transpose(1, 2)
        temb, time, text = self.condition_embedder(timestep, text)
        for block in self.blocks:
            x = block(x, text, time, rotation)
        shift, scale = (self.scale_shift_table.float() + temb.float()[:, None]).chunk(2, 1)
        x = self.proj_out((layer_norm(x) * (1 + scale) + shift).type_as(x))
        x = x.reshape(batch, *grid, 1, 2, 2, 16).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.reshape(batch, 16, *size)


def read_safetensors(path):
    """Name -> tensor; the package safetensors is not everywhere."""
    kinds = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "I64": torch.int64}
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = bytearray(f.read())
    header.pop("__metadata__", None)
    return {
        name: torch.frombuffer(data, dtype=kinds[t["dtype"]], count=math.prod(t["shape"]), offset=t["data_offsets"][0]).reshape(t["shape"])
        for name, t in header.items()
    }


def check(folder):
    """The largest difference from diffusers' output over the output's largest number."""
    with open(f"{folder}/config.json") as f:
        config = json.load(f)
    model = Transformer(config["num_attention_heads"], config["attention_head_dim"], config["ffn_dim"], config["num_layers"], config["text_dim"])
    weights = {}
    for path in sorted(glob(f"{folder}/diffusion_pytorch_model*.safetensors")):
        weights.update(read_safetensors(path))
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    model = model.to(DEVICE)
    reference = {name: tensor.to(DEVICE) for name, tensor in read_safetensors(f"{folder}/reference.safetensors").items()}
    latents = reference["hidden_states"]
    _, _, frames, height, width = latents.shape
    rotation = rope(config["attention_head_dim"], (frames, height // 2, width // 2))
    with torch.no_grad():
        out = model(latents, reference["timestep"], reference["encoder_hidden_states"], rotation)
    return ((out - reference["output"]).abs().max() / reference["output"].abs().max()).item()


def timed(work, budget=1.0):
    """Milliseconds a run: median, spread and number of samples."""
    begun = time.perf_counter()
    work()
    sync()
    start = time.perf_counter()
    work()
    sync()
    once = time.perf_counter() - start
    # What was compiled took the first run longer, and an idle GPU falls to a low clock; as in bench/measure.ts.
    if DEVICE == "cuda" and start - begun - once > 0.5:
        while time.perf_counter() - start < 2.2:
            work()
            sync()
    samples = []
    for _ in range(max(3, min(20, int(budget / max(once, 1e-6))))):
        if DEVICE == "cuda":
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            work()
            end.record()
            sync()
            samples.append(begin.elapsed_time(end))
        else:
            start = time.perf_counter()
            work()
            samples.append((time.perf_counter() - start) * 1000)
    samples.sort()
    median = samples[len(samples) // 2]
    return {"ms": median, "spread": (samples[-1] - samples[0]) / median, "samples": len(samples)}


def sync():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def rated(result, flops):
    return {**result, "tflops": flops / result["ms"] / 1e9}


@contextlib.contextmanager
def at_most(seconds):
    def late(*_):
        raise TimeoutError(f"not done after {seconds} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def sdpa_backends():
    """By name, contexts that choose how scaled_dot_product_attention computes."""
    yield "default", contextlib.nullcontext
    try:
        from torch.nn.attention import SDPBackend, sdpa_kernel
    except ImportError:
        return
    for name in ("FLASH_ATTENTION",):
        yield name.lower(), lambda name=name: sdpa_kernel(getattr(SDPBackend, name))


class Report:
    """Rows that are written as they come, so that a job that is stopped has told what it knows."""

    def __init__(self, path):
        self.path, self.rows = path, []
        cuda = DEVICE == "cuda"
        self.head = {"adapter": torch.cuda.get_device_name() if cuda else "CPU", "torch": torch.__version__}

    def add(self, shape, what, **figures):
        self.rows.append({"shape": shape, "what": what, **figures})
        print(f"{shape:5} {what:34} " + "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()), flush=True)
        if self.path:
            with open(self.path, "w") as f:
                json.dump({**self.head, "results": self.rows}, f)


def kernels(report, name, shape):
    for m, n, k in GEMMS[name]:
        x, w = torch.randn(m, k, device=DEVICE, dtype=torch.bfloat16), torch.randn(n, k, device=DEVICE, dtype=torch.bfloat16)
        report.add(name, f"GEMM {m}x{n}x{k}", **rated(timed(lambda: F.linear(x, w)), 2 * m * n * k))
    heads, tokens, dim = shape["heads"], math.prod(shape["grid"]), shape["head_dim"]
    q, k, v = (torch.randn(1, heads, tokens, dim, device=DEVICE, dtype=torch.bfloat16) for _ in range(3))
    for backend, context in sdpa_backends():
        try:
            with context():
                report.add(name, f"attention, SDPA {backend}", **rated(timed(lambda: attend(q, k, v)), 4 * heads * tokens**2 * dim))
        except RuntimeError as error:
            print(f"{name}: SDPA {backend} does not run: {str(error).splitlines()[0]}", file=sys.stderr)


def sparse(report, name, heads, tokens, dim, keeps):
    """flex_attention, compiled; TFLOP/s are those of the pairs that are kept."""
    q, k, v = (torch.randn(1, heads, tokens, dim, device=DEVICE, dtype=torch.bfloat16) for _ in range(3))
    tiles = KeptTiles(heads, tokens)
    compiled = torch.compile(lambda q, k, v: tiles(q, k, v), dynamic=False)
    for keep in keeps:
        density = tiles.keep(keep)
        with at_most(COMPILE_SECONDS):
            y = compiled(q, k, v)
            sync()
        figures = rated(timed(lambda: compiled(q, k, v), budget=0.5), density * 4 * heads * tokens**2 * dim)
        report.add(name, f"attention, flex {keep}", **figures, tokens=tokens, density=density, error=tiles.error(q, k, v, y))


def attention_over_tokens(report):
    """Dense and sparse attention over the lengths of clips, 12 heads of 128."""
    heads, dim = 12, 128
    for tokens in TOKENS:
        q, k, v = (torch.randn(1, heads, tokens, dim, device=DEVICE, dtype=torch.bfloat16) for _ in range(3))
        figures = rated(timed(lambda: attend(q, k, v), budget=0.5), 4 * heads * tokens**2 * dim)
        report.add("tokens", "attention, SDPA default", **figures, tokens=tokens, density=1)
    for tokens in sorted(TOKENS, key=lambda tokens: tokens != LONG):
        try:
            sparse(report, "tokens", heads, tokens, dim, KEEPS[: 2 if tokens in (LONG, TOKENS[-1]) else 1])
        except Exception as error:  # another version's interface leaves the dense figures standing
            print(f"flex_attention of {tokens} tokens: {type(error).__name__}: {str(error).splitlines()[:1]}", file=sys.stderr)


def dense_step(report, name, shape, block, run):
    layers, start = shape["layers"], time.perf_counter()
    with at_most(COMPILE_SECONDS):
        compiled = torch.compile(block, dynamic=False)
        run(compiled)()
        sync()
    seconds, fast = time.perf_counter() - start, timed(run(compiled), budget=1)
    report.add(name, f"forward, compiled, one block x {layers}", ms=fast["ms"] * layers, compile_s=seconds)


def sparse_steps(report, name, shape, block, run):
    """Steps with flex_attention in place of self-attention."""
    heads, tokens, layers = shape["heads"], math.prod(shape["grid"]), shape["layers"]
    block.attn1.attend = tiles = KeptTiles(heads, tokens)
    compiled = torch.compile(block, dynamic=False)
    for keep in KEEPS:
        density = tiles.keep(keep)
        with at_most(COMPILE_SECONDS):
            run(compiled)()
            sync()
        fast = timed(run(compiled), budget=1)
        report.add(name, f"forward, flex {keep}, one block x {layers}", ms=fast["ms"] * layers, density=density)


def steps(report, name, shape, compiling):
    """A forward pass as one block x layers: compiled, or eager where the compiler gives up."""
    heads, head_dim, layers = shape["heads"], shape["head_dim"], shape["layers"]
    dim, tokens = heads * head_dim, math.prod(shape["grid"])
    make = lambda *size: torch.randn(*size, device=DEVICE, dtype=torch.bfloat16)
    rotation = rope(head_dim, shape["grid"])
    with torch.device(DEVICE):
        block = Block(dim, heads, shape["ffn"]).to(torch.bfloat16)
    x, text, time_embedding = make(1, tokens, dim), make(1, shape["text"], dim), make(1, 6, dim)
    run = lambda f: (lambda: f(x, text, time_embedding, rotation))
    if compiling and hasattr(torch, "compile"):
        for what in (dense_step, sparse_steps):
            try:
                what(report, name, shape, block, run)
            except Exception as error:  # the compiler's own trouble, of any kind, leaves the other figures standing
                print(f"{name}: {what.__name__} gave up: {type(error).__name__}: {str(error).splitlines()[:1]}", file=sys.stderr)
    else:
        report.add(name, f"forward, eager, one block x {layers}", ms=timed(run(block))["ms"] * layers)
    if DEVICE == "cuda":
        report.add(name, "peak memory", GiB=torch.cuda.max_memory_allocated() / 2**30)
        torch.cuda.reset_peak_memory_stats()


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("--shape", action="append", choices=[*SHAPES, "tokens"])
    p.add_argument("--no-compile", action="store_true")
    p.add_argument("--save")
    p.add_argument("--check")
    args = p.parse_args()
    if args.check:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        error = check(args.check)
        print(f"largest difference from diffusers: {error:.2e}")
        sys.exit(error > 1e-4)
    torch.manual_seed(0)
    report = Report(args.save)
    print(report.head)
    with torch.no_grad():
        for name in args.shape or (["1.3b", "tokens", "14b"] if DEVICE == "cuda" else ["small"]):
            if name == "tokens":
                attention_over_tokens(report)
                continue
            kernels(report, name, SHAPES[name])
            steps(report, name, SHAPES[name], not args.no_compile)


if __name__ == "__main__":
    main()
