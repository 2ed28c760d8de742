"""Trains the demo model's transformer together with its text encoder, on latents of the autoencoder at both sizes.

usage: train_transformer.py --vae DIR --tokenizer DIR --init DIR|none --seconds S --out DIR [--tiny]

OUT/model is the whole pipeline in diffusers' layout with the averaged weights; OUT/state-*.safetensors what --init
takes (with OUT/model/vae as the next piece's --vae).
"""
import argparse
import copy
import random
import shutil
import time
import traceback

import torch
import torch.nn.functional as F

import common
from clips import FRAMES, caption, render, sample_clip
from common import DEVICE, Captured, Trainer, compiled, cosine, log
from train_vae import Forward

TOKENS = 32
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
DTYPE = torch.bfloat16 if DEVICE == "cuda" else torch.float32


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


def _block(x, e, mod, cos, sin, heads, w):
    """One block. x float32 [B, S, D] (the residual stream), e [B, L, D], mod [B, 6, D], w: its weights by name."""
    c = lambda n: w[n].to(e.dtype)
    lin = lambda v, n: F.linear(v, c(n + ".weight"), c(n + ".bias"))
    split = lambda v: v.unflatten(-1, (heads, -1))
    b1, s1, g1, b2, s2, g2 = (w["scale_shift_table"] + mod).chunk(6, 1)
    d = x.shape[-1]
    h = (F.layer_norm(x, (d,), eps=1e-6) * (1 + s1) + b1).to(e.dtype)
    qkv = F.linear(h, torch.cat([c(f"attn1.to_{n}.weight") for n in "qkv"]), torch.cat([c(f"attn1.to_{n}.bias") for n in "qkv"]))
    q, k, v = qkv.chunk(3, -1)
    q = _turn(split(_rms(q, w["attn1.norm_q.weight"])), cos, sin).to(e.dtype)
    k = _turn(split(_rms(k, w["attn1.norm_k.weight"])), cos, sin).to(e.dtype)
    a = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), split(v).transpose(1, 2))
    x = x + lin(a.transpose(1, 2).flatten(2), "attn1.to_out.0").float() * g1
    h = F.layer_norm(x, (d,), w["norm2.weight"], w["norm2.bias"], 1e-6).to(e.dtype)
    q = split(_rms(lin(h, "attn2.to_q"), w["attn2.norm_q.weight"]).to(e.dtype))
    k = split(_rms(lin(e, "attn2.to_k"), w["attn2.norm_k.weight"]).to(e.dtype))
    a = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), split(lin(e, "attn2.to_v")).transpose(1, 2))
    x = x + lin(a.transpose(1, 2).flatten(2), "attn2.to_out.0").float()
    h = (F.layer_norm(x, (d,), eps=1e-6) * (1 + s2) + b2).to(e.dtype)
    h = lin(F.gelu(lin(h, "ffn.net.0.proj"), approximate="tanh"), "ffn.net.2")
    return x + h.float() * g2


class Velocity:
    """WanTransformer3DModel's function from its weights: fused projections, one compiled block for all layers."""

    def __init__(self, dit, dtype=DTYPE):
        self.dit, self.dtype, self.block = dit, dtype, compiled(_block)
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
    """Latents of random clips at one size with their captions' tokens, on the device; parts are replaced as it goes."""

    def __init__(self, size, capacity, batch, forward, tokenize, seed):
        self.size, self.batch, self.forward, self.tokenize = size, batch, forward, tokenize
        self.rng = random.Random(seed)
        shape = (16, 1 + (FRAMES - 1) // 4, size // 8, size // 8)
        self.latents = torch.zeros(capacity, *shape, dtype=DTYPE, device=DEVICE)
        self.ids = torch.zeros(capacity, TOKENS, dtype=torch.long, device=DEVICE)
        self.mask = torch.zeros(capacity, TOKENS, dtype=torch.long, device=DEVICE)
        self.filled = self.at = 0

    def add(self):
        """Encodes one batch of fresh clips into the next place."""
        clips = [sample_clip(self.rng, 0.5) for _ in range(self.batch)]
        with torch.no_grad():
            z = self.forward.encode(render(clips, FRAMES, self.size, DEVICE))[0]
            ids, mask = self.tokenize([caption(c) for c in clips])
            if self.at + self.batch > len(self.latents):
                self.at = 0
            place = slice(self.at, self.at + self.batch)
            self.latents[place], self.ids[place], self.mask[place] = z.to(DTYPE), ids, mask
        self.at += self.batch
        self.filled = max(self.filled, self.at)

    def fill(self, seconds):
        """Adds until full or out of time; the bank then is what was filled."""
        t = time.time()
        while self.filled + self.batch <= len(self.latents) and time.time() - t < seconds:
            self.add()
            if DEVICE == "cuda" and self.at % (8 * self.batch) == 0:
                torch.cuda.synchronize()
        for n in ("latents", "ids", "mask"):
            setattr(self, n, getattr(self, n)[:self.filled])
        log(f"bank at {self.size}: {self.filled} clips in {time.time() - t:.1f} s")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vae", required=True)
    p.add_argument("--tokenizer", required=True)
    p.add_argument("--init", default="none")
    p.add_argument("--seconds", type=float, required=True, help="training time, set-up and banks not counted")
    p.add_argument("--deadline", type=float, default=1e9, help="seconds since the start by which training stops")
    p.add_argument("--out", required=True)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--muon-scale", type=float, default=3.0)
    p.add_argument("--optimizer", default="muon", choices=["muon", "adam"])
    p.add_argument("--batch", type=int, nargs=2, default=[160, 40], help="clips a step at 128 and at 256")
    p.add_argument("--small-share", type=float, default=0.5, help="share of the time that is 128 only; then sizes mix")
    p.add_argument("--bank", type=int, nargs=2, default=[24576, 6144])
    p.add_argument("--bank-seconds", type=float, nargs=2, default=[25, 25])
    p.add_argument("--seed", type=int, default=2)
    p.add_argument("--tiny", action="store_true")
    args = p.parse_args()
    common.setup(args.seed)
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    if args.tiny:
        args.batch, args.bank, args.bank_seconds = [2, 1], [4, 2], [60, 60]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.tokenizer)
    def tokenize(texts):
        t = tokenizer(texts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
        return t.input_ids.to(DEVICE), t.attention_mask.to(DEVICE)
    vae = AutoencoderKLWan.from_pretrained(args.vae, torch_dtype=torch.float32).to(DEVICE).eval().requires_grad_(False)
    text = UMT5EncoderModel(UMT5Config(vocab_size=len(tokenizer), **TEXT)).to(DEVICE)
    dit = WanTransformer3DModel(**TRANSFORMER).to(DEVICE)
    both = torch.nn.ModuleDict(dict(text=text, dit=dit))
    inner = lambda n, q: args.optimizer == "muon" and n.startswith("dit.blocks") and q.ndim == 2
    trainer = Trainer(both, inner, weight_decay=0.01, ema=0.9993, muon_scale=args.muon_scale)
    info = trainer.load(args.init) if args.init != "none" else {"step": 0, "seconds": 0.0, "clips": 0}
    log("transformer", sum(q.numel() for q in dit.parameters()), "text encoder", sum(q.numel() for q in text.parameters()), "by Muon", trainer.adam_from, "from", args.init, {k: v for k, v in info.items() if k not in ("mean", "std")})

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

    fast = Forward(vae, DTYPE)
    banks = [Bank(s, n, 64 if s == 128 else 16, fast, tokenize, args.seed * 7919 + s + info["step"]) for s, n in zip((128, 256), args.bank)]
    if args.tiny:
        for b in banks:
            b.batch = 1
    for bank, seconds in zip(banks, args.bank_seconds):
        bank.fill(seconds)
    if "mean" not in info:
        per = lambda f: sum(f(b.latents[:1024].float()) for b in banks) / 2
        info["mean"] = [round(v, 5) for v in per(lambda z: z.mean((0, 2, 3, 4))).tolist()]
        info["std"] = [round(v, 5) for v in per(lambda z: z.std((0, 2, 3, 4))).tolist()]
    vae.register_to_config(latents_mean=info["mean"], latents_std=info["std"])
    log("latents' mean", info["mean"], "std", info["std"])
    mean, std = (torch.tensor(info[k], device=DEVICE).view(1, -1, 1, 1, 1) for k in ("mean", "std"))
    empty_ids, empty_mask = tokenize([""])

    def step_for(k):
        bank, count = banks[k], args.batch[k]
        def run():
            i = torch.randint(0, len(bank.latents), (count,), device=DEVICE)
            x0 = (bank.latents[i].float() - mean) / std
            drop = torch.rand(count, 1, device=DEVICE) < 0.1
            ids, mask = torch.where(drop, empty_ids, bank.ids[i]), torch.where(drop, empty_mask, bank.mask[i])
            # Stratified over the batch: every step sees all noise levels.
            u = (torch.arange(count, device=DEVICE) + torch.rand(count, device=DEVICE)) / count
            sigma = SHIFT * u / (1 + (SHIFT - 1) * u)
            noise = torch.randn_like(x0)
            s = sigma.view(-1, 1, 1, 1, 1)
            v = velocity((1 - s) * x0 + s * noise, sigma * 1000, encode_text(text, ids, mask, buckets))
            loss = F.mse_loss(v, noise - x0)
            trainer.step(loss)
            return loss.detach()
        return run

    def export():
        """The pipeline with averaged weights; the transformer bfloat16 in shards below 9 MB, the autoencoder float16."""
        root = f"{args.out}/model"
        shutil.rmtree(root, ignore_errors=True)
        averaged = torch.nn.ModuleDict(dict(text=UMT5EncoderModel(text.config), dit=WanTransformer3DModel(**TRANSFORMER))).to(DEVICE)
        trainer.copy_ema(averaged)
        averaged["dit"].to(torch.bfloat16).save_pretrained(f"{root}/transformer", max_shard_size="9MB")
        averaged["text"].save_pretrained(f"{root}/text_encoder")
        shutil.copytree(args.tokenizer, f"{root}/tokenizer")
        scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=SHIFT)
        pipe = WanPipeline(tokenizer=tokenizer, text_encoder=averaged["text"], vae=vae, scheduler=scheduler, transformer=averaged["dit"])
        scheduler.save_pretrained(f"{root}/scheduler")
        pipe.save_config(root)
        copy.deepcopy(vae).half().save_pretrained(f"{root}/vae")

    compiled_steps = {}
    step, saved, training, begin = 0, time.time(), 0.0, None
    losses, history = [None, None], []
    def state():
        return {**info, "step": info["step"] + step, "seconds": info["seconds"] + training, "losses": losses, "history": history}
    small = args.small_share if args.init == "none" else min(args.small_share, 0.1)
    try:
        while training < args.seconds and time.time() - common.START < args.deadline:
            fraction = training / args.seconds
            k = 0 if fraction < small else step % 2
            if k not in compiled_steps:
                t = time.time()
                compiled_steps[k] = Captured(step_for(k), trainer)
                log("step at", banks[k].size, f"ready in {time.time() - t:.1f} s")
                begin = time.time() - training
            trainer.lr.fill_(cosine(fraction, step, args.lr, 300 if args.init == "none" else 150))
            loss = compiled_steps[k]()
            if step % 16 < 2:
                banks[k].add()
            if step % 25 < 2:
                # Reading the loss also keeps the host near the device, which the clock relies on.
                v = loss.item()
                losses[k] = v if losses[k] is None else 0.9 * losses[k] + 0.1 * v
                if step % (2 if args.tiny else 250) == 0:
                    history.append([step, round(training, 1), losses[0], losses[1]])
                    log(f"step {step} losses {[l and round(l, 4) for l in losses]} gradient {trainer.norm.item():.2f} lr {trainer.lr.item():.1e}")
            step += 1
            training = time.time() - begin
            if time.time() - saved > 75:
                trainer.save(args.out, state(), ema=False)
                saved = time.time()
    except Exception:
        traceback.print_exc()
    trainer.save(args.out, state(), ema=False)
    export()
    log("trained", step, "steps,", f"{training:.0f} s, losses", losses)


if __name__ == "__main__":
    main()
