"""Trains the demo model's autoencoder (diffusers' AutoencoderKLWan).

usage: train_vae.py --init VAE|none --seconds S --out DIR [--tiny]

OUT/vae holds the averaged weights in diffusers' layout (float16), written every 60 s; --init takes such a folder.
"""
import argparse
import copy
import math
import os
import random
import shutil
import threading
import time
import queue

import torch
import torch.nn.functional as F

import common
from clips import FRAMES, render, sample_clip
from common import DEVICE, Captured, Trainer, compiled, cosine, log, psnr

CONFIG = dict(base_dim=16, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, temperal_downsample=[False, True, True])
HELD_OUT_SEED = 90210


def _activate(x, gamma, taps):
    """RMS norm over channels, SiLU, and what the causal convolution wants before it (see Forward.conv)."""
    h = x.float()
    h = h * torch.rsqrt((h * h).sum(1, keepdim=True) + 1e-12) * (x.shape[1] ** 0.5) * gamma.view(1, -1, 1, 1, 1)
    return _before(F.silu(h).to(x.dtype), taps)


activate = compiled(_activate, dynamic=True)


def _before(h, taps):
    h = F.pad(h, (0, 0, 0, 0, 2, 0))
    if taps:
        t = h.shape[2] - 2
        h = torch.cat([h[:, :, :t], h[:, :, 1:t + 1], h[:, :, 2:]], 1)
    return h.contiguous(memory_format=torch.channels_last_3d)


class Forward:
    """The autoencoder over a whole clip at once, the same function as diffusers' frame-by-frame one.

    Its convolutions cache the last frames of a chunk, which over a clip is zero padding in front. Two places differ
    for the first frame: going down in time it passes by the strided convolution, and going up in time it is not
    doubled and later frames do not see it. `kernel`: "conv3d", or "conv2d" with the three taps in time side by side
    as channels, whichever the machine runs faster.
    """

    def __init__(self, vae, dtype, kernel="conv3d"):
        self.vae, self.dtype, self.taps = vae, dtype, kernel == "conv2d"
        self.pad = _before

    def act(self, x, gamma, taps):
        # One compiled kernel for each number of channels, whatever the clip's size: compiling is what takes time.
        if x.is_cuda:
            torch._dynamo.mark_static(x, 1)
            torch._dynamo.mark_static(gamma)
        return activate(x, gamma, taps)

    def conv(self, c, x):
        """A 3x3x3 causal convolution whose input already is padded in time (or has its taps as channels)."""
        w, b = c.weight.to(self.dtype), c.bias.to(self.dtype)
        if not self.taps:
            return F.conv3d(x, w, b, padding=(0, 1, 1))
        o, i, kt, kh, kw = w.shape
        return self.frames(x, lambda f: F.conv2d(f, w.transpose(1, 2).reshape(o, kt * i, kh, kw), b, padding=1))

    def pointwise(self, c, x):
        return self.frames(x, lambda f: F.conv2d(f, c.weight[:, :, 0].to(self.dtype), c.bias.to(self.dtype)))

    def temporal(self, c, x, stride=1):
        """A convolution over three frames in time, without padding."""
        n = (x.shape[2] - 3) // stride + 1
        taps = torch.cat([x[:, :, k:k + stride * (n - 1) + 1:stride] for k in range(3)], 1)
        o, i, _, _, _ = c.weight.shape
        w = c.weight.transpose(1, 2).reshape(o, 3 * i, 1, 1).to(self.dtype)
        return self.frames(taps, lambda f: F.conv2d(f, w, c.bias.to(self.dtype)))

    def frames(self, x, f):
        b, _, t, _, _ = x.shape
        y = f(x.permute(0, 2, 1, 3, 4).flatten(0, 1).contiguous(memory_format=torch.channels_last))
        return y.unflatten(0, (b, t)).permute(0, 2, 1, 3, 4)

    def residual(self, m, x):
        short = x if isinstance(m.conv_shortcut, torch.nn.Identity) else self.pointwise(m.conv_shortcut, x)
        h = self.conv(m.conv1, self.act(x, m.norm1.gamma, self.taps))
        return short + self.conv(m.conv2, self.act(h, m.norm2.gamma, self.taps))

    def attention(self, m, x):
        def one(f):
            n, c, h, w = f.shape
            g = F.normalize(f.float(), dim=1).to(f.dtype) * (c ** 0.5) * m.norm.gamma.to(f.dtype)
            qkv = F.conv2d(g, m.to_qkv.weight.to(self.dtype), m.to_qkv.bias.to(self.dtype))
            q, k, v = qkv.flatten(2).transpose(1, 2).unsqueeze(1).chunk(3, -1)
            a = F.scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2).reshape(n, c, h, w)
            return f + F.conv2d(a, m.proj.weight.to(self.dtype), m.proj.bias.to(self.dtype))
        return self.frames(x, one)

    def resample(self, m, x):
        conv = m.resample[1]
        w, b = conv.weight.to(self.dtype), conv.bias.to(self.dtype)
        if m.mode.startswith("upsample"):
            if m.mode == "upsample3d":
                head, tail = x[:, :, :1], x[:, :, 1:]
                y = self.temporal(m.time_conv, F.pad(tail, (0, 0, 0, 0, 2, 0)))
                y = y.unflatten(1, (2, -1)).permute(0, 2, 3, 1, 4, 5).flatten(2, 3)
                x = torch.cat([head, y], 2)
            return self.frames(x, lambda f: F.conv2d(F.interpolate(f, scale_factor=2, mode="nearest"), w, b, padding=1))
        x = self.frames(x, lambda f: F.conv2d(F.pad(f, (0, 1, 0, 1)), w, b, stride=2))
        if m.mode == "downsample3d":
            x = torch.cat([x[:, :, :1], self.temporal(m.time_conv, x, 2)], 2)
        return x

    def middle(self, m, x):
        return self.residual(m.resnets[1], self.attention(m.attentions[0], self.residual(m.resnets[0], x)))

    def encode(self, x):
        """Clips [B, 3, T, H, W] -> mean and log variance, float32."""
        e = self.vae.encoder
        x = x.to(self.dtype).contiguous(memory_format=torch.channels_last_3d)
        h = self.conv(e.conv_in, self.pad(x, self.taps))
        for m in e.down_blocks:
            h = self.resample(m, h) if hasattr(m, "resample") else self.residual(m, h)
        h = self.middle(e.mid_block, h)
        h = self.conv(e.conv_out, self.act(h, e.norm_out.gamma, self.taps))
        mean, logvar = self.pointwise(self.vae.quant_conv, h).float().chunk(2, 1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, z):
        """Latents -> clips, float32, without the final clamp, which would cut the gradient."""
        d = self.vae.decoder
        z = z.to(self.dtype).contiguous(memory_format=torch.channels_last_3d)
        h = self.middle(d.mid_block, self.conv(d.conv_in, self.pad(self.pointwise(self.vae.post_quant_conv, z), self.taps)))
        for block in d.up_blocks:
            for m in block.resnets:
                h = self.residual(m, h)
            for m in block.upsamplers or []:
                h = self.resample(m, h)
        return self.conv(d.conv_out, self.act(h, d.norm_out.gamma, self.taps)).float()


def loss_of(y, x, mean, logvar):
    """Reconstruction loss (L1, twice MSE, which PSNR measures, a little of the slopes, for edges), MSE and KL."""
    d = y - x
    mse = (d * d).mean()
    slopes = sum(v.abs().mean() for v in (d.diff(dim=-1), d.diff(dim=-2), d.diff(dim=2)))
    kl = 0.5 * (mean ** 2 + logvar.exp() - 1 - logvar).mean()
    return d.abs().mean() + 2 * mse + 0.15 * slopes, mse, kl


loss_of = compiled(loss_of, dynamic=True)


class Feed:
    """Training crops: clips are drawn ahead on a thread, their pixels on the device when asked for."""

    def __init__(self, seed, plans):
        self.rng, self.plans, self.ready = random.Random(seed), plans, [queue.Queue(8) for _ in plans]
        self.wanted = set()
        threading.Thread(target=self._draw, daemon=True).start()

    def _draw(self):
        while True:
            some = [k for k in sorted(self.wanted) if not self.ready[k].full()]
            for k in some:
                batch, frames, side, sizes, of = self.plans[k]
                size = self.rng.choice(sizes)
                crop = (self.rng.randrange(0, of - frames + 1), frames, self.rng.randrange(0, size - side + 1), self.rng.randrange(0, size - side + 1), side)
                self.ready[k].put(([sample_clip(self.rng, 0.6, 0.4) for _ in range(batch)], size, crop, of))
            if not some:
                time.sleep(0.002)

    def next(self, plan):
        """A batch of the plan asked for, float32 on the device."""
        self.wanted.add(plan)
        clips, size, crop, of = self.ready[plan].get()
        return render(clips, of, size, DEVICE, crop)


def held_out(vae, size, count, batch, forward=None):
    """PSNR of reconstructions of held-out clips (mean latents, clamped pixels), through diffusers or `forward`."""
    rng, error, n = random.Random(HELD_OUT_SEED), 0.0, 0
    with torch.no_grad():
        for _ in range(0, count, batch):
            x = render([sample_clip(rng, far=0.3) for _ in range(batch)], FRAMES[size], size, DEVICE)
            y = forward.decode(forward.encode(x)[0]).clamp(-1, 1) if forward else vae.decode(vae.encode(x).latent_dist.mean).sample
            error, n = error + ((y - x) ** 2).mean().item(), n + 1
    return 10 * math.log10(4 * n / error)


def export(trainer, vae, out, statistics):
    """Saves the averaged autoencoder in diffusers' layout, float16, with the latents' statistics. Returns it in float32."""
    # What is not trained stays as it is in `vae`.
    vae = trainer.copy_ema(copy.deepcopy(vae))
    half = copy.deepcopy(vae).half()
    half.register_to_config(**statistics)
    half.save_pretrained(f"{out}/vae.part")
    shutil.rmtree(f"{out}/vae", ignore_errors=True)
    os.replace(f"{out}/vae.part", f"{out}/vae")
    return vae.eval()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--init", default="none")
    p.add_argument("--seconds", type=float, required=True, help="training time, set-up not counted")
    p.add_argument("--out", required=True)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--kl", type=float, default=1e-4)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--keep", type=float, default=0.3, help="how much a tuned encoder's latents of the first 29 frames are held to the first encoder's")
    p.add_argument("--decoder-only", action="store_true", help="tune the decoder alone: the latents stay, and so a transformer does")
    p.add_argument("--kernel", default="auto", choices=["auto", "conv3d", "conv2d"])
    p.add_argument("--optimizer", default="muon", choices=["muon", "adam"])
    p.add_argument("--deadline", type=float, default=1e9, help="seconds since the start by which training stops")
    p.add_argument("--tiny", action="store_true", help="small crops and an early end, for smoke tests")
    args = p.parse_args()
    common.setup(args.seed)
    from diffusers import AutoencoderKLWan

    tuned = args.init != "none"
    vae = AutoencoderKLWan.from_pretrained(args.init, torch_dtype=torch.float32).to(DEVICE) if tuned else AutoencoderKLWan(**CONFIG).to(DEVICE)
    vae.train().requires_grad_(True)
    # A transformer that is trained on after this one's tuning goes on from the same scale.
    statistics = {k: list(vae.config[k]) for k in ("latents_mean", "latents_std")} if tuned else {}
    inner = lambda n, q: args.optimizer == "muon" and q.ndim >= 4 and min(q.shape[:2]) >= 16 and "conv_in" not in n and "conv_out" not in n and "quant" not in n
    learns = vae
    if args.decoder_only:
        learns = torch.nn.ModuleDict(dict(post_quant_conv=vae.post_quant_conv, decoder=vae.decoder))
    trainer = Trainer(learns, inner, weight_decay=0.0, ema=0.998)
    log("parameters", trainer.flat.numel(), "by Muon", trainer.adam_from, "from", args.init)
    dtype = torch.bfloat16 if DEVICE == "cuda" else torch.float32
    # (clips, frames, crop, sizes of the clips cropped, their frames); the first plans are for speed, the last two are
    # the real thing. What a clip's later frames hold has to be learned at their length.
    plans = [(32, 9, 96, [128, 256], 29), (16, 17, 128, [128, 128, 256], 29), (5, 29, 128, [128, 128, 256], 29), (4, 61, 96, [128, 256, 512], 61)]
    # Up to each fraction of the time, the plans in turn.
    stages = [(1.0, [2, 3])] if tuned else [(0.3, [0]), (0.6, [1]), (1.0, [2, 3, 3])]
    if args.tiny:
        plans = [(2, 9, 48, [128], 29), (2, 13, 64, [128], 29), (2, 29, 48, [128], 29), (1, 61, 48, [128], 61)]
    feed = Feed(args.seed * 1000 + tuned, plans)

    # The same function as diffusers' chunked one, or nothing below means anything.
    torch.backends.cudnn.benchmark = False
    with torch.no_grad():
        x = feed.next(0)[:2]
        ours, theirs = Forward(vae, torch.float32), vae.encode(x).latent_dist.mean
        e1 = ((ours.encode(x)[0] - theirs).norm() / theirs.norm()).item()
        a, b = ours.decode(theirs).clamp(-1, 1), vae.decode(theirs).sample
        e2 = ((a - b).norm() / b.norm()).item()
    feed.wanted.clear()
    torch.backends.cudnn.benchmark = True
    log(f"against diffusers: encoder {e1:.1e}, decoder {e2:.1e}")
    assert e1 < 2e-3 and e2 < 2e-3, "the clip-at-once forward differs from diffusers'"

    # Latents of the first 29 frames depend on no later frame: a transformer that knows them goes on from there. What
    # needs no gradients computes them all the same, since otherwise its kernels would be compiled anew.
    first = copy.deepcopy(vae) if tuned and args.keep and not args.decoder_only else None
    known = (FRAMES[128] - 1) // 4 + 1
    scale = torch.tensor(vae.config.latents_std, device=DEVICE).view(1, -1, 1, 1, 1)

    def step_for(forward, plan):
        x = feed.next(plan).clone()
        before = first and Forward(first, forward.dtype, "conv2d" if forward.taps else "conv3d")
        def run():
            mean, logvar = forward.encode(x)
            if args.decoder_only:
                mean, logvar = mean.detach(), logvar.detach()
            y = forward.decode(mean + torch.randn_like(mean) * torch.exp(0.5 * logvar))
            loss, mse, kl = loss_of(y, x, mean, logvar)
            moved = torch.zeros_like(mse)
            if before:
                was = before.encode(x)[0].detach()
                moved = (((mean - was) / scale)[:, :, :known] ** 2).mean()
            trainer.step(loss + args.kl * kl + args.keep * moved)
            return mse.detach(), kl.detach(), moved.detach()
        return x, run

    kernel = args.kernel
    if kernel == "auto":
        times = {}
        for k in ("conv2d", "conv3d") if DEVICE == "cuda" else ():
            try:
                _, run = step_for(Forward(vae, dtype, k), 3 if tuned else 1)
                run()
                run()
                torch.cuda.synchronize()
                t = time.time()
                n = 0
                # A few steps, or one where this kernel turns out hopelessly slow.
                while n < 5 and time.time() - t < 1.5:
                    run()
                    torch.cuda.synchronize()
                    n += 1
                times[k] = (time.time() - t) / n
            except RuntimeError as e:
                log(k, "failed:", str(e)[:200])
        kernel = min(times, key=times.get) if times else "conv3d"
        log("kernel", kernel, {k: f"{v * 1e3:.1f} ms" for k, v in times.items()})
    forward = Forward(vae, dtype, kernel)

    captured = {}

    def ready(plan):
        if plan not in captured:
            x, run = step_for(forward, plan)
            captured[plan] = x, Captured(run, trainer)
            log("plan", plan, plans[plan], "ready")
        return captured[plan]

    begin, step, saved, stage = None, 0, time.time(), None
    training = 0.0
    while training < args.seconds and time.time() - common.START < args.deadline:
        fraction = training / min(args.seconds, args.deadline - ((begin or time.time()) - common.START))
        now = next(of for end, of in stages if fraction < end or end == 1.0)
        if now is not stage:
            # Capturing takes seconds that do not count as training.
            stage = now
            for plan in stage:
                ready(plan)
            begin = time.time() - training
        plan = stage[step % len(stage)]
        x, train = ready(plan)
        x.copy_(feed.next(plan))
        trainer.lr.fill_(cosine(fraction, step, args.lr, 100 if tuned else 200))
        mse, kl, moved = train()
        if step % (3 if args.tiny else 50) < 3:
            # Also keeps the host from running far ahead of the device, which would spoil the clock.
            m = mse.item()
            if step % (3 if args.tiny else 200) < 3:
                log(f"vae {step} plan {plan} psnr {10 * math.log10(4 / m):.2f} kl {kl.item():.3f} moved {moved.item():.4f} gradient {trainer.norm.item():.2f} lr {trainer.lr.item():.1e}")
        step += 1
        training = time.time() - begin
        if time.time() - saved > 60:
            export(trainer, vae, args.out, statistics)
            saved = time.time()
    log("trained", step, "steps", f"{training:.0f} s")
    vae = export(trainer, vae, args.out, statistics)
    # Whoever waits for the weights can go on.
    open(f"{args.out}/done", "w").close()
    torch.backends.cudnn.benchmark = False
    averaged = Forward(vae, dtype, kernel)
    for size, count, batch in [] if args.tiny else [(512, 4, 1), (256, 8, 4), (128, 32, 16)]:
        log(f"held-out psnr at {size}, {FRAMES[size]} frames, {dtype}: {held_out(vae, size, count, batch, averaged):.2f} dB")


if __name__ == "__main__":
    main()
