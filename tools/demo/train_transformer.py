"""Trains the demo model's transformer together with its text encoder, on latents of the autoencoder at several sizes.

usage: train_transformer.py --vae DIR --tokenizer DIR --init MODEL|none --seconds S --out DIR [--tiny]

OUT/model is the whole pipeline in diffusers' layout with the averaged weights, written every 100 s; --init takes such a
folder. Clips of several kinds (side x frames) are trained in turn, each for its share of the time.

Several processes train one model together if they are started as torchrun does (common.Workers). The first one exports
and judges; another one that has lost it does so in OUT-RANK.
"""
import argparse
import collections
import copy
import glob
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import common
from clips import MOTIONS, caption, render, sample_clip
from common import DEVICE, Captured, Trainer, Workers, compiled, cosine, log
from sample import contact_sheet, generate
from train_vae import Forward

TOKENS = 32
#: The share of clips that need a long range, and that of clips with two objects among the rest.
FAR, TWO = 0.2, 0.6
TEXT = dict(
    d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4, relative_attention_num_buckets=32,
    relative_attention_max_distance=128, dropout_rate=0.0, feed_forward_proj="gated-gelu", is_encoder_decoder=False,
    use_cache=False, pad_token_id=0, eos_token_id=1, tie_word_embeddings=False,
)
TRANSFORMER = dict(
    patch_size=(1, 2, 2), num_attention_heads=8, attention_head_dim=32, in_channels=16, out_channels=16, text_dim=128,
    freq_dim=256, ffn_dim=1024, num_layers=8, cross_attn_norm=True, qk_norm="rms_norm_across_heads", eps=1e-6,
    rope_max_seq_len=1024,
)
SHIFT = 3.0
#: Kinds of clips (side x frames): clips a step, most clips at once, clips before training, and the shift of the noise
#: levels. More tokens need more noise to hide what a clip shows on the whole. 128x61 and 256x61 teach the length and
#: 512x29 the scale for a small part of what a step at 512x61 takes.
KINDS = [
    ("128x29", 160, 16384, 512, 3.0), ("128x61", 80, 8192, 256, 3.5), ("256x29", 40, 4096, 192, 3.5),
    ("256x61", 16, 2048, 96, 4.5), ("512x29", 8, 2048, 48, 6.0), ("512x61", 4, 2048, 48, 7.0),
]
DTYPE = torch.bfloat16 if DEVICE == "cuda" else torch.float32
FAST_ATTENTION = None


def encode_text(m, ids, mask, buckets):
    """UMT5's encoder, float32, from a UMT5EncoderModel's weights. `buckets`: one-hot relative positions [L, L, 32]."""
    norm = lambda x, n: n.weight * x * torch.rsqrt((x * x).mean(-1, keepdim=True) + n.variance_epsilon)
    e = m.encoder
    # One-hot products instead of look-ups: their backward pass can go into a CUDA graph.
    h = (ids[..., None] == torch.arange(m.shared.weight.shape[0], device=ids.device)).float() @ m.shared.weight
    hide = torch.where(mask.bool(), 0.0, -1e9)[:, None, None, :]
    for block in e.block:
        a = block.layer[0].SelfAttention
        x = norm(h, block.layer[0].layer_norm)
        q, k, v = (F.linear(x, w.weight).unflatten(-1, (a.n_heads, -1)).transpose(1, 2) for w in (a.q, a.k, a.v))
        bias = (buckets @ a.relative_attention_bias.weight).permute(2, 0, 1)[None]
        p = (q @ k.mT + bias + hide).softmax(-1)
        h = h + F.linear((p @ v).transpose(1, 2).flatten(2), a.o.weight)
        f = block.layer[1].DenseReluDense
        x = norm(h, block.layer[1].layer_norm)
        h = h + F.linear(F.gelu(F.linear(x, f.wi_0.weight), approximate="tanh") * F.linear(x, f.wi_1.weight), f.wo.weight)
    return norm(h, e.final_layer_norm) * mask[..., None]


def relative_buckets(m):
    """One-hot buckets of relative positions for `encode_text`."""
    a = m.encoder.block[0].layer[0].SelfAttention
    at = torch.arange(TOKENS)
    b = a._relative_position_bucket(at[None, :] - at[:, None])
    return F.one_hot(b, a.relative_attention_num_buckets).float().to(DEVICE)


def _rms(x, w):
    x = x.float()
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * w


def _turn(x, cos, sin):
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


def _before_attention(x, mod, cos, sin, heads, w, dtype):
    """A block's queries, keys and values [B, S, H, D] of self-attention. x float32 [B, S, D], mod [B, 6, D]."""
    split = lambda v: v.unflatten(-1, (heads, -1))
    c = lambda n: w[n].to(dtype)
    b1, s1 = (w["scale_shift_table"] + mod)[:, :2].chunk(2, 1)
    h = (F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + s1) + b1).to(dtype)
    qkv = F.linear(h, torch.cat([c(f"attn1.to_{n}.weight") for n in "qkv"]), torch.cat([c(f"attn1.to_{n}.bias") for n in "qkv"]))
    q, k, v = qkv.chunk(3, -1)
    q = _turn(split(_rms(q, w["attn1.norm_q.weight"])), cos, sin).to(dtype)
    k = _turn(split(_rms(k, w["attn1.norm_k.weight"])), cos, sin).to(dtype)
    return q, k, split(v)


def _behind_attention(x, a, e, mod, heads, w):
    """The rest of a block behind self-attention's output a [B, S, D]: the new residual stream."""
    c = lambda n: w[n].to(e.dtype)
    lin = lambda v, n: F.linear(v, c(n + ".weight"), c(n + ".bias"))
    split = lambda v: v.unflatten(-1, (heads, -1))
    g1, b2, s2, g2 = (w["scale_shift_table"] + mod)[:, 2:].chunk(4, 1)
    d = x.shape[-1]
    x = x + lin(a, "attn1.to_out.0").float() * g1
    h = F.layer_norm(x, (d,), w["norm2.weight"], w["norm2.bias"], 1e-6).to(e.dtype)
    q = split(_rms(lin(h, "attn2.to_q"), w["attn2.norm_q.weight"]).to(e.dtype))
    k = split(_rms(lin(e, "attn2.to_k"), w["attn2.norm_k.weight"]).to(e.dtype))
    a = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), split(lin(e, "attn2.to_v")).transpose(1, 2))
    x = x + lin(a.transpose(1, 2).flatten(2), "attn2.to_out.0").float()
    h = (F.layer_norm(x, (d,), eps=1e-6) * (1 + s2) + b2).to(e.dtype)
    h = lin(F.gelu(lin(h, "ffn.net.0.proj"), approximate="tanh"), "ffn.net.2")
    return x + h.float() * g2


def _attention(q, k, v):
    """Self-attention over [B, S, H, D], by the kernel that `choose_attention` found fastest."""
    heads_first = (t.transpose(1, 2) for t in (q, k, v))
    if FAST_ATTENTION is None:
        return F.scaled_dot_product_attention(*heads_first).transpose(1, 2).flatten(2)
    with sdpa_kernel([FAST_ATTENTION, SDPBackend.EFFICIENT_ATTENTION], set_priority=True):
        return F.scaled_dot_product_attention(*heads_first).transpose(1, 2).flatten(2)


def choose_attention(tokens=16384, heads=8, dim=32):
    """Times the GPU's kernels of attention forward and backward, and uses the fastest from then on."""
    global FAST_ATTENTION
    if DEVICE == "cpu":
        return
    times = {}
    q, k, v = (torch.randn(2, tokens, heads, dim, device=DEVICE, dtype=DTYPE, requires_grad=True) for _ in range(3))
    for kernel in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
        try:
            FAST_ATTENTION = kernel
            for n in (2, 5):
                torch.cuda.synchronize()
                t = time.time()
                for _ in range(n):
                    _attention(q, k, v).sum().backward()
                torch.cuda.synchronize()
            times[kernel] = (time.time() - t) / n / 2
            if not all(torch.isfinite(g.grad).all() for g in (q, k, v)):
                del times[kernel]
        except RuntimeError as e:
            log(kernel, "failed:", str(e)[:200])
    # What is usual, unless the other one gains enough.
    flash = times.get(SDPBackend.FLASH_ATTENTION, math.inf)
    FAST_ATTENTION = min(times, key=times.get) if times and min(times.values()) < 0.9 * flash else SDPBackend.FLASH_ATTENTION
    log("attention by", FAST_ATTENTION, {k.name: f"{v * 1e3:.2f} ms a clip and layer" for k, v in times.items()})


def _block(x, e, mod, cos, sin, heads, w, before=_before_attention, behind=_behind_attention):
    """One block. x float32 [B, S, D] (the residual stream), e [B, L, D], mod [B, 6, D], w: its weights by name."""
    return behind(x, _attention(*before(x, mod, cos, sin, heads, w, e.dtype)), e, mod, heads, w)


def compiled_block():
    """`_block` with all but attention compiled, once for all batches and lengths."""
    before, behind = compiled(_before_attention, dynamic=None), compiled(_behind_attention, dynamic=None)
    def block(x, e, mod, cos, sin, heads, w):
        if x.is_cuda:
            # Other numbers stay fixed, such as the channels.
            for t in (x, e, mod):
                torch._dynamo.maybe_mark_dynamic(t, 0)
            for t in (x, cos, sin):
                torch._dynamo.maybe_mark_dynamic(t, 1)
        a = _attention(*before(x, mod, cos, sin, heads, w, e.dtype))
        if x.is_cuda:
            for n in (0, 1):
                torch._dynamo.maybe_mark_dynamic(a, n)
        return behind(x, a, e, mod, heads, w)
    return block


def load_transformer(model):
    """The transformer of a model's folder, float32."""
    from diffusers import WanTransformer3DModel
    from safetensors.torch import load_file

    dit = WanTransformer3DModel(**TRANSFORMER).to(DEVICE)
    dit.load_state_dict({n: t for file in glob.glob(f"{model}/transformer/*.safetensors") for n, t in load_file(file).items()})
    return dit


class Velocity:
    """WanTransformer3DModel's function from its weights: fused projections, one compiled block for all layers."""

    def __init__(self, dit, dtype=DTYPE):
        self.dit, self.dtype, self.block = dit, dtype, compiled_block()
        self.rope = {}
        self.weights_of = lambda block: dict(block.named_parameters())

    def __call__(self, x, t, e):
        """x [B, 16, F, H, W] float32, t [B] in 0..1000, e [B, L, text] float32 -> velocity, float32."""
        m, c = self.dit, self.dit.condition_embedder
        b, _, f, h, w = x.shape
        if (f, h, w) not in self.rope:
            with torch.no_grad():
                self.rope[f, h, w] = [r[..., k::2].contiguous() for r, k in zip(m.rope(x), (0, 1))]
        cos, sin = self.rope[f, h, w]
        patches = x.unflatten(4, (-1, 2)).unflatten(3, (-1, 2)).permute(0, 2, 3, 5, 1, 4, 6).flatten(4).flatten(1, 3)
        hidden = F.linear(patches.to(self.dtype), m.patch_embedding.weight.flatten(1).to(self.dtype), m.patch_embedding.bias.to(self.dtype)).float()
        temb = c.time_embedder(c.timesteps_proj(t).float())
        mod = c.time_proj(F.silu(temb)).unflatten(1, (6, -1))
        e = c.text_embedder(e).to(self.dtype)
        for block in m.blocks:
            hidden = self.block(hidden, e, mod, cos, sin, m.config.num_attention_heads, self.weights_of(block))
        shift, scale = (m.scale_shift_table + temb[:, None]).chunk(2, 1)
        out = (F.layer_norm(hidden, hidden.shape[-1:], eps=1e-6) * (1 + scale) + shift).to(self.dtype)
        out = F.linear(out, m.proj_out.weight.to(self.dtype), m.proj_out.bias.to(self.dtype)).float()
        return out.unflatten(1, (f, h // 2, w // 2)).unflatten(-1, (2, 2, -1)).permute(0, 6, 1, 2, 4, 3, 5).flatten(5).flatten(3, 4)


class Bank:
    """Latents of random clips of one kind with their captions' tokens, on the device; parts are replaced as it goes."""

    def __init__(self, side, frames, count, capacity, first, shift, batch, forward, tokenize, seed, hard=0.0):
        self.side, self.frames, self.count, self.first, self.shift = side, frames, count, first, shift
        self.name, self.batch, self.forward, self.tokenize = f"{side}x{frames}", batch, forward, tokenize
        self.rng, self.hard = random.Random(seed), hard
        shape = (16, 1 + (self.frames - 1) // 4, self.side // 8, self.side // 8)
        self.latents = torch.zeros(capacity, *shape, dtype=DTYPE, device=DEVICE)
        self.ids = torch.zeros(capacity, TOKENS, dtype=torch.long, device=DEVICE)
        self.mask = torch.zeros(capacity, TOKENS, dtype=torch.long, device=DEVICE)
        #: Whether a clip needs no long range.
        self.near = torch.zeros(capacity, device=DEVICE)
        self.filled = self.at = self.added = 0
        #: Seconds of a step and of `add`.
        self.step_seconds = self.add_seconds = 0.0
        self.loss, self.steps = None, 0

    def sample(self):
        """A random clip, `hard` in its share of the cases."""
        clip, wanted, turning = sample_clip(self.rng, TWO, FAR), self.rng.random() < self.hard, self.rng.random() < 0.6
        while wanted and not hard(clip, turning):
            clip = sample_clip(self.rng, TWO, FAR)
        return clip

    def add(self):
        """Encodes one batch of fresh clips into the next place."""
        clips = [self.sample() for _ in range(self.batch)]
        with torch.no_grad():
            z = self.forward.encode(render(clips, self.frames, self.side, DEVICE))[0]
            ids, mask = self.tokenize([caption(c) for c in clips])
            if self.at + self.batch > len(self.latents):
                self.at = 0
            place = slice(self.at, self.at + self.batch)
            self.latents[place], self.ids[place], self.mask[place] = z.to(DTYPE), ids, mask
            self.near[place] = upload(torch.tensor([float(not c["scenes"] and all(o["motion"] in MOTIONS for o in c["objects"])) for c in clips]))
        self.at += self.batch
        self.added += self.batch
        self.filled = max(self.filled, self.at)

    def fill(self, count):
        """Adds clips until there are `count`."""
        self.add()
        synchronize()
        t, before = time.time(), self.added
        while self.filled + self.batch <= min(count, len(self.latents)):
            self.add()
            if self.at % (4 * self.batch) == 0:
                synchronize()
        synchronize()
        self.add_seconds = (time.time() - t) / max(1, (self.added - before) // self.batch)
        log(f"bank of {self.name}: {self.filled} clips, {self.add_seconds / self.batch * 1e3:.1f} ms a clip")


def hard(clip, turning):
    """Whether a clip has what is learnt last: an object that is seen to turn, or else a cross."""
    if turning:
        return any(o["motion"] == "spinning" and o["shape"] not in ("circle", "ring") for o in clip["objects"])
    return any(o["shape"] == "cross" for o in clip["objects"])


def start_judging(videos, prompts, name):
    """Writes a contact sheet, NAME.jpg, and has the clips judged into NAME.json by another process, which is returned."""
    in_memory = "/dev/shm" if os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > 2 * videos.nbytes else None
    clips = tempfile.NamedTemporaryFile(dir=in_memory, suffix=".npy")
    np.save(clips, videos)
    clips.flush()
    here = os.path.dirname(os.path.abspath(__file__))
    process = subprocess.Popen([sys.executable, f"{here}/judge.py", clips.name, prompts, "--json", name + ".json", "--title", os.path.basename(name)])
    # The file lasts as long as what reads it.
    process.clips = clips
    contact_sheet(videos[:32]).save(name + ".jpg", quality=80)
    return process


def upload(t):
    """A tensor on the device; the host does not wait for what that does before."""
    return t.pin_memory().to(DEVICE, non_blocking=True) if DEVICE == "cuda" else t


def synchronize():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vae", required=True)
    p.add_argument("--wait", help="a file to wait for before --vae is read; all else is made ready with --init's autoencoder")
    p.add_argument("--tokenizer", required=True)
    p.add_argument("--init", default="none", help="a model's folder to go on from")
    p.add_argument("--seconds", type=float, required=True, help="training time, set-up and banks not counted")
    p.add_argument("--deadline", type=float, default=1e9, help="seconds since the start by which training stops")
    p.add_argument("--out", required=True)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--muon-scale", type=float, default=3.0)
    p.add_argument("--optimizer", default="muon", choices=["muon", "adam"])
    p.add_argument("--lr-to", type=float, default=0.01, help="what is left of the rate at the end; more where another piece follows")
    p.add_argument("--ema", type=float, default=0.9993)
    p.add_argument("--clips", nargs="+", default=[k for k, *_ in KINDS], help="side x frames of the kinds")
    p.add_argument("--share", type=float, nargs="+", default=[0.12, 0.10, 0.08, 0.20, 0.20, 0.30], help="of the time, for each kind")
    p.add_argument("--share-to", type=float, nargs="+", help="of the time at the end, reached evenly (default: --share)")
    p.add_argument("--fresh", type=float, default=0.15, help="time of a kind that goes into new clips, relative to its steps")
    p.add_argument("--hard", type=float, default=0.0, help="share of clips that must have an object that is seen to turn (6 of 10) or a cross")
    p.add_argument("--like", type=float, nargs="+", default=[0.0], help="how much --like-clips, or each of them, are held to the velocity of --teacher where that knows the caption")
    p.add_argument("--like-clips", nargs="+", default=["128x29", "256x29"], help="the kinds that --teacher draws well")
    p.add_argument("--teacher", help="a model's folder (default: --init)")
    p.add_argument("--decoder", help="an autoencoder with the same latents, read at the end for export and judge if it is there")
    p.add_argument("--every", type=int, default=4, help="steps between two averagings over the processes, if there are several")
    p.add_argument("--seed", type=int, default=2)
    p.add_argument("--judge", nargs="+", default=[], help="at the end, SIDExFRAMES:COUNT:PROMPTS[:SHIFT]... in 20 steps: OUT/judge-*.json and *.jpg")
    p.add_argument("--judge-until", type=float, default=1e9, help="the second by which that ends")
    p.add_argument("--no-graphs", action="store_true", help="do not capture steps as CUDA graphs")
    p.add_argument("--tiny", action="store_true")
    args = p.parse_args()
    workers = Workers()
    if workers.rank:
        args.seed, args.out = args.seed + 1000 * workers.rank, f"{args.out}-{workers.rank}"
    like = dict(zip(args.like_clips, args.like * len(args.like_clips) if len(args.like) == 1 else args.like))
    common.setup(args.seed)
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    known = {k: more for k, *more in KINDS}
    kinds = [(int(k.split("x")[0]), int(k.split("x")[1]), *known[k]) for k in args.clips]
    if args.tiny:
        kinds = [(32 if side < 512 else 64, frames, 2, 4, 2, shift) for side, frames, _, _, _, shift in kinds]
    share = np.asarray(args.share[:len(kinds)])
    share_to = np.asarray(args.share_to or args.share)[:len(kinds)]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.tokenizer)
    def tokenize(texts):
        t = tokenizer(texts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
        return upload(t.input_ids), upload(t.attention_mask)
    first_vae = f"{args.init}/vae" if args.wait else args.vae
    vae = AutoencoderKLWan.from_pretrained(first_vae, torch_dtype=torch.float32).to(DEVICE).eval().requires_grad_(False)
    if args.init == "none":
        text, dit = UMT5EncoderModel(UMT5Config(vocab_size=len(tokenizer), **TEXT)).to(DEVICE), WanTransformer3DModel(**TRANSFORMER).to(DEVICE)
    else:
        text = UMT5EncoderModel.from_pretrained(f"{args.init}/text_encoder").float().to(DEVICE)
        dit = load_transformer(args.init)
    text.train().requires_grad_(True)
    dit.train().requires_grad_(True)
    both = torch.nn.ModuleDict(dict(text=text, dit=dit))
    inner = lambda n, q: args.optimizer == "muon" and n.startswith("dit.blocks") and q.ndim == 2
    trainer = Trainer(both, inner, weight_decay=0.01, ema=args.ema, muon_scale=args.muon_scale)
    log("transformer", sum(q.numel() for q in dit.parameters()), "text encoder", sum(q.numel() for q in text.parameters()), "by Muon", trainer.adam_from, "from", args.init)

    # Both functions written out above have to be the library's.
    velocity, buckets = Velocity(dit), relative_buckets(text)
    with torch.no_grad():
        ids, mask = tokenize(["a red circle moving right on a black background", ""])
        ours, theirs = encode_text(text, ids, mask, buckets), text(ids, mask).last_hidden_state * mask[..., None]
        e1 = ((ours - theirs).norm() / theirs.norm()).item()
        x, t = torch.randn(2, 16, 8, 16, 16, device=DEVICE), torch.tensor([900.0, 250.0], device=DEVICE)
        plain = Velocity(dit, torch.float32)
        plain.block = _block
        a, b = plain(x, t, theirs), dit(x, t, theirs, return_dict=False)[0]
        e2 = ((a - b).norm() / b.norm()).item()
    log(f"against the libraries: text encoder {e1:.1e}, transformer {e2:.1e}")
    assert e1 < 2e-3 and e2 < 5e-3, "the written-out forward differs from the library's"
    choose_attention()

    fast = Forward(vae, DTYPE)
    banks = [Bank(*kind, max(1, (1 << 20) // (kind[0] ** 2)), fast, tokenize, args.seed * 7919 + sum(kind[:2]), args.hard) for kind in kinds]
    for bank in banks:
        if args.tiny:
            bank.batch = 1
        bank.fill(bank.batch)
    if vae.config.latents_mean == AutoencoderKLWan().config.latents_mean:
        # A new autoencoder's, which has the library's numbers. One that was trained on keeps its own.
        for bank in banks:
            bank.fill(bank.first)
        per = lambda f: [round(v, 5) for v in (sum(f(b.latents[:b.filled][:1024].float()) for b in banks) / len(banks)).tolist()]
        vae.register_to_config(latents_mean=per(lambda z: z.mean((0, 2, 3, 4))), latents_std=per(lambda z: z.std((0, 2, 3, 4))))
    log("latents' mean", vae.config.latents_mean, "std", vae.config.latents_std)
    mean, std = (torch.tensor(v, device=DEVICE).view(1, -1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std))
    empty_ids, empty_mask = tokenize([""])
    # The teacher's parameters want gradients, which are not asked for, so that it is what was compiled.
    if args.teacher:
        teacher, first_text = Velocity(load_transformer(args.teacher)), UMT5EncoderModel.from_pretrained(f"{args.teacher}/text_encoder").float().to(DEVICE)
    else:
        teacher, first_text = Velocity(copy.deepcopy(dit)), copy.deepcopy(text)
    teacher.block = velocity.block
    captured, pool = {}, torch.cuda.graph_pool_handle() if DEVICE == "cuda" else None

    def drawn(bank):
        i = torch.randint(0, bank.filled, (bank.count,), device=DEVICE)
        return [of[i] for of in (bank.latents, bank.ids, bank.mask, bank.near)]

    def train(bank):
        """A step. It is a graph where that could be captured: launching its kernels one by one may take as long as they do."""
        some = drawn(bank)
        if bank.name not in captured:
            return step_on(bank, *some)
        inputs, step = captured[bank.name]
        for to, what in zip(inputs, some):
            to.copy_(what)
        return step().clone()

    def capture(bank):
        inputs = drawn(bank)
        captured[bank.name] = inputs, Captured(lambda: step_on(bank, *inputs), trainer, 1, pool)

    def step_on(bank, latents, ids, mask, near):
        count, shift = bank.count, bank.shift
        x0 = (latents.float() - mean) / std
        drop = torch.rand(count, 1, device=DEVICE) < 0.1
        ids, mask = torch.where(drop, empty_ids, ids), torch.where(drop, empty_mask, mask)
        # Stratified over the batch: every step sees all noise levels.
        u = (torch.arange(count, device=DEVICE) + torch.rand(count, device=DEVICE)) / count
        sigma = shift * u / (1 + (shift - 1) * u)
        noise = torch.randn_like(x0)
        s = sigma.view(-1, 1, 1, 1, 1)
        x, goal = (1 - s) * x0 + s * noise, noise - x0
        if like.get(bank.name):
            with torch.no_grad():
                e = encode_text(first_text, ids, mask, buckets)
            weight = like[bank.name] * near.view(-1, 1, 1, 1, 1)
            goal = goal + weight * (teacher(x, sigma * 1000, e).detach() - goal)
        v = velocity(x, sigma * 1000, encode_text(text, ids, mask, buckets))
        loss = F.mse_loss(v, goal)
        trainer.step(loss)
        return loss.detach()

    def export():
        """The pipeline with averaged weights; the transformer bfloat16 in shards below 9 MB, the autoencoder float16."""
        root = f"{args.out}/model"
        shutil.rmtree(root + ".part", ignore_errors=True)
        averaged = torch.nn.ModuleDict(dict(text=UMT5EncoderModel(text.config), dit=WanTransformer3DModel(**TRANSFORMER))).to(DEVICE)
        trainer.copy_ema(averaged)
        averaged["dit"].to(torch.bfloat16).save_pretrained(f"{root}.part/transformer", max_shard_size="9MB")
        averaged["text"].save_pretrained(f"{root}.part/text_encoder")
        shutil.copytree(args.tokenizer, f"{root}.part/tokenizer")
        scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=SHIFT)
        pipe = WanPipeline(tokenizer=tokenizer, text_encoder=averaged["text"], vae=vae, scheduler=scheduler, transformer=averaged["dit"])
        scheduler.save_pretrained(f"{root}.part/scheduler")
        pipe.save_config(f"{root}.part")
        copy.deepcopy(vae).half().save_pretrained(f"{root}.part/vae")
        shutil.rmtree(root, ignore_errors=True)
        os.replace(root + ".part", root)

    step, saved, begin, pending = 0, time.time(), None, collections.deque()

    def follow(bank, loss):
        """Has a step's loss copied to the host behind the step."""
        if DEVICE == "cpu":
            return pending.append((bank, loss, None))
        host, done = torch.empty((), pin_memory=True), torch.cuda.Event()
        host.copy_(loss, non_blocking=True)
        done.record()
        pending.append((bank, host, done))

    def settle(all_of_it=False):
        """Reads losses of steps that the device has done, so that the host never is far ahead of it."""
        while len(pending) > (0 if all_of_it else 3):
            bank, value, done = pending.popleft()
            if done:
                done.synchronize()
            v = value.item()
            bank.loss = v if bank.loss is None else 0.95 * bank.loss + 0.05 * v

    try:
        for bank in banks:
            t = time.time()
            trainer.lr.fill_(0)
            for n in range(2):
                t2 = time.time()
                try:
                    train(bank)
                except Exception:
                    if velocity.block is _block:
                        raise
                    traceback.print_exc()
                    log("goes on without compiled blocks")
                    velocity.block = teacher.block = _block
                    train(bank)
                synchronize()
            bank.step_seconds = time.time() - t2
            log(f"step of {bank.count} at {bank.name} ready in {time.time() - t:.1f} s, takes {bank.step_seconds * 1e3:.0f} ms")
        if not args.no_graphs:
            try:
                for bank in banks:
                    eager = train(bank).item()
                    capture(bank)
                    first, second = train(bank).item(), train(bank).item()
                    log(f"step at {bank.name} captured; losses {eager:.4f} before, {first:.4f} and {second:.4f}, gradient {trainer.norm.item():.2f}")
                    # A step of few clips has a loss that depends on them.
                    if not (0.1 < first / eager < 10 and 0.1 < second / eager < 10 and first != second):
                        raise RuntimeError("the captured step computes something else")
            except RuntimeError:
                # What a broken capture leaves behind cannot be trusted: begin again, in the same time.
                traceback.print_exc()
                log("begins again without graphs")
                os.environ["BEGUN"] = str(common.START)
                os.execv(sys.executable, [sys.executable, *sys.argv, "--no-graphs"])
        if args.wait:
            while not os.path.exists(args.wait):
                time.sleep(0.2)
            tuned = AutoencoderKLWan.from_pretrained(args.vae, torch_dtype=torch.float32)
            vae.load_state_dict(tuned.state_dict())
            log("autoencoder read")
        for bank in banks:
            if args.wait:
                bank.filled = bank.at = bank.added = 0
            bank.fill(bank.first)
            z = (bank.latents[:min(bank.filled, 64)].float() - mean) / std
            log(f"latents of {bank.name} as trained on: mean {z.mean().item():.3f}, std {z.std().item():.3f}")
        # What the steps above left there came from other latents.
        trainer.first.zero_()
        trainer.second.zero_()
        trainer.count.zero_()
        # NCCL's own thread would disturb a capture: the others are met behind all of them.
        workers.meet(trainer.flat, mean, std)
        if workers.rank:
            vae.register_to_config(latents_mean=[round(v, 5) for v in mean.flatten().tolist()], latents_std=[round(v, 5) for v in std.flatten().tolist()])
        trainer.ema.copy_(trainer.flat)
        begin, due = time.time(), np.zeros(len(banks))
        while True:
            # All processes follow the first one's clock, so that they train the same kinds in step and end together.
            if not workers.together or step % (args.every * (6 if workers.slow else 1)) == 0:
                training = time.time() - begin
                length = min(args.seconds, args.deadline - (begin - common.START))
                stop, fraction, *seconds = workers.agree([float(training >= length), training / max(length, 1e-3), *(s for b in banks for s in (b.step_seconds, b.add_seconds))])
                for bank, *measured in zip(banks, seconds[::2], seconds[1::2]):
                    bank.step_seconds, bank.add_seconds = measured
                workers.average(trainer.flat, trainer.first, trainer.second)
                if stop:
                    workers.average(trainer.ema)
                    break
            # The kind that is behind its share most.
            k = int(due.argmax())
            bank = banks[k]
            trainer.lr.fill_(cosine(fraction, step, args.lr, 300 if args.init == "none" else 100, args.lr_to))
            follow(bank, train(bank))
            bank.steps += 1
            now = share + (share_to - share) * min(1.0, fraction)
            due += bank.step_seconds * now / now.sum()
            due[k] -= bank.step_seconds
            if bank.steps in (5, 20):
                synchronize()
                t = time.time()
                follow(bank, train(bank))
                synchronize()
                bank.step_seconds, bank.steps = time.time() - t, bank.steps + 1
                t = time.time()
                bank.add()
                synchronize()
                bank.add_seconds = time.time() - t
                log(f"step of {bank.count} at {bank.name} takes {bank.step_seconds * 1e3:.0f} ms, {bank.batch} new clips {bank.add_seconds * 1e3:.0f} ms")
            if bank.added * bank.add_seconds / bank.batch < args.fresh * bank.steps * bank.step_seconds + bank.add_seconds * bank.first / bank.batch:
                bank.add()
            settle()
            if step % (2 if args.tiny else 100) == 0:
                log(f"step {step}, {training:.0f} s, losses", {b.name: b.loss and round(b.loss, 4) for b in banks}, "steps", [b.steps for b in banks],
                    "clips", [b.added for b in banks], f"gradient {trainer.norm.item():.2f} lr {trainer.lr.item():.1e}")
            step += 1
            if workers.leads and time.time() - saved > 100:
                export()
                saved = time.time()
    except Exception as e:
        traceback.print_exc()
        workers.part(e)
    settle(True)
    if args.decoder and os.path.exists(args.decoder):
        vae.load_state_dict(AutoencoderKLWan.from_pretrained(args.decoder, torch_dtype=torch.float32).state_dict())
        log("decoder read")
    if workers.leads:
        export()
        # Whoever waits for the weights can go on.
        open(f"{args.out}/done", "w").close()
    log("trained", step, "steps,", f"{time.time() - (begin or time.time()):.0f} s, losses", {b.name: b.loss for b in banks}, "steps", [b.steps for b in banks], "clips", [b.added for b in banks])
    with torch.no_grad():
        trainer.flat.copy_(trainer.ema)
    embed = lambda texts: (lambda ids, mask: encode_text(text, ids, mask, buckets))(*tokenize(texts))

    def judged(kind, count, file, shift=SHIFT):
        """Clips of prompts, in the hands of the judge."""
        (side, frames), t, shift = (int(n) for n in kind.split("x")), time.time(), float(shift)
        with open(file) as f:
            prompts = [line.strip() for line in f if line.strip()][:int(count)]
        scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=shift)
        mine = workers.part_of(len(prompts))
        videos = generate(velocity, embed, fast, scheduler, prompts[mine], side, frames, 1 if args.tiny else 20, seed=7 + mine.start, batch=max(2, (1 << 20) // side ** 2), until=args.judge_until)
        videos = workers.gather(videos, len(prompts))
        if videos is None:
            return None
        log(f"{len(videos)} of {count} clips at {kind}, shift {shift:g}, in {time.time() - t:.1f} s")
        return start_judging(videos, file, f"{args.out}/judge-{kind}-{os.path.basename(file).removesuffix('.txt')}-{shift:g}") if len(videos) else None

    judging = []
    for spec in args.judge:
        try:
            judging.append(judged(*spec.split(":")))
        except Exception:
            traceback.print_exc()
    for process in filter(None, judging):
        process.wait()
    log("judged")


if __name__ == "__main__":
    main()
