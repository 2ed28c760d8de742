"""Distills the demo model into 4 steps without guidance: a LoRA for its transformer, in diffusers' (PEFT) layout.

usage: distill.py MODEL PROMPTS --seconds S --out DIR [--init LORA] [--sizes 128 128 256] [--tiny]
       distill.py MODEL PROMPTS --judge LORA... --out DIR [--sizes 128 256]

The teacher is the model itself with guidance, in 20 steps of the second order. The student is the same weights with the
LoRA, and has to get by one Euler step where five of the teacher's lead. It learns that at noise levels that it reaches
by its own steps, so that its errors do not add up: the teacher is asked anew from there.

OUT/few_steps.safetensors is the LoRA with averaged factors, OUT/results.json what the judge says of it and of the
teacher, OUT/clips-*.jpg contact sheets.
"""
import argparse
import json
import math
import os
import random
import time

import numpy as np
import torch

import common
import judge
from clips import BACKGROUNDS, COLORS, FRAMES, MOTIONS, PATTERNS, RETURNS, SCENE_MOTIONS, caption, sample_object
from common import DEVICE, Trainer, cosine, log
from sample import contact_sheet
from train_transformer import FAR, SHIFT, TOKENS, Velocity, load_transformer

#: Steps of the student, and the teacher's within each.
STEPS, WITHIN = 4, 5
GUIDANCE = 4.0
#: How much the velocity's error counts in each of the student's steps. The last makes edges sharp.
WEIGHTS = (0.7, 1.0, 1.0, 1.5)


def noise_level(step, steps):
    """The noise level behind `step` of `steps` even steps, shifted. `step`: a tensor or a number."""
    u = 1 - step / steps
    return SHIFT * u / (1 + (SHIFT - 1) * u)


def tokens_of(size):
    """The transformer's tokens of a clip."""
    return (1 + (FRAMES[size] - 1) // 4) * (size // 16) ** 2


def wide(s):
    return s.view(-1, 1, 1, 1, 1)


def random_caption(rng):
    """A caption as those of clips, every second with two objects, without the search for places that a clip needs."""
    kind = rng.random() / FAR
    scenes, motions = kind < 0.4, SCENE_MOTIONS if kind < 0.4 else RETURNS if kind < 1 else MOTIONS
    objects = [sample_object(rng, motions=motions)]
    if scenes or rng.random() < 0.5:
        objects.append(sample_object(rng, rng.choice([c for c in COLORS if c != objects[0]["color"]]), motions if scenes else MOTIONS))
    pattern = rng.choices(PATTERNS, [0.6, 0.2, 0.2])[0]
    return caption(dict(objects=objects, background=rng.choice(list(BACKGROUNDS)), pattern=pattern, scenes=scenes))


class Lora(torch.nn.Module):
    """Low-rank updates of all linear layers of a transformer but the text's, stacked by the shape of the weights.

    `use` puts weights into the transformer as plain tensors: its own, or those with the updates added.
    """

    def __init__(self, dit, rank):
        super().__init__()
        dit.requires_grad_(False)
        places = {}
        for name, m in dit.named_modules():
            if isinstance(m, torch.nn.Linear) and "text_embedder" not in name:
                places.setdefault(tuple(m.weight.shape), []).append((name, m))
        self.places = list(places.values())
        self.factors = torch.nn.ParameterDict()
        # Where each parameter of a block is, in the order that the compiled block was called with.
        self.of_block = [[(n, dit.get_submodule(f"blocks.{i}.{n}".rpartition(".")[0]), n.rpartition(".")[2])
                          for n, _ in block.named_parameters()] for i, block in enumerate(dit.blocks)]
        self.numbers = {id(block): i for i, block in enumerate(dit.blocks)}
        self.base = []
        for i, members in enumerate(self.places):
            self.base.append(torch.stack([m.weight.detach().float() for _, m in members]))
            outputs, inputs = members[0][1].weight.shape
            self.factors[f"down{i}"] = torch.nn.Parameter(torch.randn(len(members), rank, inputs, device=DEVICE) / math.sqrt(inputs))
            self.factors[f"up{i}"] = torch.nn.Parameter(torch.zeros(len(members), outputs, rank, device=DEVICE))
            for _, m in members:
                del m._parameters["weight"]
        self.use(None)

    def use(self, factors):
        for i, (members, w) in enumerate(zip(self.places, self.base)):
            if factors is not None:
                w = torch.baddbmm(w, factors[f"up{i}"], factors[f"down{i}"])
            for (_, m), one in zip(members, w.unbind()):
                m.weight = one

    def weights_of(self, block):
        return {n: getattr(m, attribute) for n, m, attribute in self.of_block[self.numbers[id(block)]]}

    def tensors(self, factors):
        """The factors by their names in diffusers, float16."""
        out = {}
        for i, members in enumerate(self.places):
            for k, (name, _) in enumerate(members):
                out[f"transformer.{name}.lora_A.weight"] = factors[f"down{i}"][k].detach().half().cpu().contiguous()
                out[f"transformer.{name}.lora_B.weight"] = factors[f"up{i}"][k].detach().half().cpu().contiguous()
        return out

    def load(self, tensors):
        with torch.no_grad():
            for i, members in enumerate(self.places):
                for k, (name, _) in enumerate(members):
                    self.factors[f"down{i}"][k].copy_(tensors[f"transformer.{name}.lora_A.weight"])
                    self.factors[f"up{i}"][k].copy_(tensors[f"transformer.{name}.lora_B.weight"])


class Walkers:
    """Clips of one size on their way from noise, and the pool of what the teacher made of them."""

    def __init__(self, size, count, capacity, texts):
        shape = (16, 1 + (FRAMES[size] - 1) // 4, size // 8, size // 8)
        self.size, self.texts = size, texts
        self.x = torch.randn(count, *shape, device=DEVICE)
        self.step = torch.zeros(count, dtype=torch.long, device=DEVICE)
        self.text = torch.randint(len(texts), (count,), device=DEVICE)
        empty = lambda dtype, *more: torch.zeros(capacity, *more, dtype=dtype, device=DEVICE)
        self.pool = [empty(torch.float32, *shape), empty(torch.float32, *shape), empty(torch.long), empty(torch.long)]
        self.at = self.filled = 0
        self.losses = [None] * STEPS

    def keep(self, goal):
        count, capacity = len(self.x), len(self.pool[0])
        place = slice(self.at, self.at + count)
        for to, what in zip(self.pool, (self.x, goal, self.step, self.text)):
            to[place] = what
        self.at = (self.at + count) % capacity
        self.filled = max(self.filled, self.at, capacity if self.at == 0 else 0)

    def advance(self, x):
        self.step += 1
        done = self.step == STEPS
        self.x = torch.where(wide(done), torch.randn_like(x), x)
        self.text = torch.where(done, torch.randint_like(self.text, len(self.texts)), self.text)
        self.step = torch.where(done, 0, self.step)

    def batch(self, count):
        i = torch.randint(0, self.filled, (count,), device=DEVICE)
        return [of[i] for of in self.pool]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("prompts")
    p.add_argument("--seconds", type=float, default=90, help="training time, set-up not counted")
    p.add_argument("--deadline", type=float, default=1e9, help="seconds since the start by which training stops")
    p.add_argument("--out", required=True)
    p.add_argument("--judge", nargs="+", help="train nothing, and judge these LoRAs")
    p.add_argument("--noise", type=int, default=7, help="seed of the first prompt's noise when judging")
    p.add_argument("--init", help="a LoRA to go on from")
    p.add_argument("--rank", type=int, default=16)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--sizes", type=int, nargs="+", default=[128], help="of rounds, in turn")
    p.add_argument("--batch", type=int, default=128, help="clips at 128; as many tokens at other sizes")
    p.add_argument("--rounds", type=int, default=6, help="training steps to one of the teacher")
    p.add_argument("--pool", type=int, default=8192)
    p.add_argument("--judged", type=int, default=64)
    p.add_argument("--seed", type=int, default=3)
    p.add_argument("--baselines", action="store_true", help="judge the model in 4 steps without the LoRA, too")
    p.add_argument("--tiny", action="store_true")
    args = p.parse_args()
    common.setup(args.seed)
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler
    from safetensors.torch import load_file, save_file
    from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

    if args.tiny:
        args.batch, args.pool, args.judged = 1, 4, 1
    os.makedirs(args.out, exist_ok=True)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(f"{args.model}/tokenizer")
    text = UMT5EncoderModel.from_pretrained(f"{args.model}/text_encoder").to(DEVICE).eval()

    @torch.no_grad()
    def embed(texts):
        parts = []
        for i in range(0, len(texts), 1024):
            t = tokenizer(texts[i:i + 1024], padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt").to(DEVICE)
            parts.append(text(t.input_ids, t.attention_mask).last_hidden_state * t.attention_mask[..., None])
        return torch.cat(parts)

    vae = AutoencoderKLWan.from_pretrained(f"{args.model}/vae", torch_dtype=torch.float32).to(DEVICE).eval().requires_grad_(False)
    mean, std = (torch.tensor(v, device=DEVICE).view(1, -1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std))
    dit = load_transformer(args.model).eval()
    lora = Lora(dit, args.rank)
    if args.init:
        lora.load(load_file(args.init))
    trainer = Trainer(lora, lambda name, q: False, betas=(0.9, 0.99), weight_decay=0.0, ema=0.995)
    log("factors", trainer.flat.numel())
    velocity = Velocity(dit)
    velocity.weights_of = lora.weights_of

    rng = random.Random(args.seed)
    captions = [random_caption(rng) for _ in range(64 if args.tiny else 8192)]
    texts, nothing = embed(captions), embed([""])
    log("captions", captions[:2])

    def averaged():
        return {n.removeprefix("factors."): trainer.ema[b:e].view(q.shape) for n, q, (b, e) in zip(trainer.names, trainer.params, trainer.ranges)}

    def guided(x, sigma, e):
        """The teacher's velocity. Its weights must be in use."""
        t = sigma * 1000
        without = velocity(x, t, nothing.expand(len(x), -1, -1).contiguous())
        return without + GUIDANCE * (velocity(x, t, e) - without)

    @torch.no_grad()
    def teach(x, step, e):
        """Where the teacher is one step of the student's later: Adams and Bashforth's second order."""
        lora.use(None)
        before = None
        for j in range(WITHIN):
            s, s2 = (noise_level(step * WITHIN + j + n, STEPS * WITHIN) for n in (0, 1))
            h, v = wide(s2 - s), guided(x, s, e)
            x = x + h * (v if before is None else v + h / (2 * before[0]) * (v - before[1]))
            before = h, v
        return x

    def student(x, step, e):
        """One Euler step with the weights in use: the velocity and the levels."""
        s, s2 = noise_level(step, STEPS), noise_level(step + 1, STEPS)
        return velocity(x, s * 1000, e), wide(s), wide(s2)

    def round_of(w, from_teacher):
        """Asks the teacher, and moves the walkers on: some as the teacher says, the others as the student goes."""
        e = texts[w.text]
        goal = teach(w.x, w.step, e)
        w.keep(goal)
        with torch.no_grad():
            if from_teacher < 1:
                lora.use(averaged())
                v, s, s2 = student(w.x, w.step, e)
                goal = torch.where(wide(torch.rand(len(goal), device=DEVICE) < from_teacher), goal, w.x + (s2 - s) * v)
            w.advance(goal)

    weights = torch.tensor(WEIGHTS, device=DEVICE)

    def train(w):
        x, goal, step, i = w.batch(len(w.x))
        lora.use(lora.factors)
        # The gradient of x is not needed: with it the first block is compiled as the others.
        v, s, s2 = student(x.requires_grad_(), step, texts[i])
        each = ((v - (goal - x.detach()) / (s2 - s)) ** 2).mean((1, 2, 3, 4))
        trainer.step((each * weights[step]).mean())
        return each.detach(), step

    # Evaluation: the same prompts and noise for all.
    with open(args.prompts) as f:
        prompts = [line.strip() for line in f if line.strip()][:args.judged]
    asked, frames, results = embed(prompts), {}, {}

    def noise(size):
        shape = (1, 16, 1 + (FRAMES[size] - 1) // 4, size // 8, size // 8)
        return torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(args.noise + i)) for i in range(len(prompts))]).to(DEVICE)

    @torch.no_grad()
    def render(size, way):
        """Latents and clips of all prompts. `way(x, e)`: from noise to latents."""
        count = share(args.batch, size)
        x, made = noise(size), []
        for i in range(0, len(x), count):
            some, e = x[i:i + count], asked[i:i + count]
            fill = count - len(some)
            # Batches of one size, which is compiled already.
            made.append(way(torch.cat([some, x[:1].expand(fill, -1, -1, -1, -1)]), torch.cat([e, asked[:1].expand(fill, -1, -1)]))[:len(some)])
        z = torch.cat(made)
        few = share(16, size)
        clips = torch.cat([vae.decode(z[i:i + few] * std + mean).sample.clamp(-1, 1) for i in range(0, len(z), few)])
        return (clips.permute(0, 2, 3, 4, 1) * 127.5 + 127.5).round().to(torch.uint8).cpu().numpy()

    def unipc(steps):
        def way(x, e):
            lora.use(None)
            scheduler = UniPCMultistepScheduler.from_pretrained(f"{args.model}/scheduler")
            scheduler.set_timesteps(steps, device=DEVICE)
            for t in scheduler.timesteps:
                at = t.float().expand(len(x)) / 1000
                x = scheduler.step(guided(x, at, e), t, x, return_dict=False)[0]
            return x
        return way

    def taught(x, e):
        for k in range(STEPS):
            x = teach(x, torch.full((len(x),), k, device=DEVICE), e)
        return x

    def walked(factors):
        def way(x, e):
            lora.use(factors)
            for k in range(STEPS):
                v, s, s2 = student(x, torch.full((len(x),), k, device=DEVICE), e)
                x = x + (s2 - s) * v
            return x
        return way

    def judged(name, size, way):
        t = time.time()
        clips = render(size, way)
        title = f"{name} at {size}"
        shares = judge.judge_all(list(clips), prompts, title)
        likeness = None
        if size in frames:
            error = ((clips.astype(np.float32) - frames[size]) ** 2).mean((1, 2, 3, 4))
            likeness = float(np.mean(10 * np.log10(255 ** 2 / np.maximum(error, 1e-3))))
        else:
            frames[size] = clips.astype(np.float32)
        results[title] = {"psnr": likeness, **{k: s for k, (s, _) in shares.items()}}
        log(title, f"{time.time() - t:.1f} s", "psnr", likeness)
        contact_sheet(clips).save(f"{args.out}/clips-{name.replace(' ', '-')}-{size}.jpg", quality=85)
        with open(f"{args.out}/results.json", "w") as f:
            json.dump(results, f, indent=1)

    def share(count, size):
        return max(1, count * tokens_of(128) // tokens_of(size))

    sizes = sorted(set(args.sizes))
    if args.judge:
        for size in sizes:
            judged("teacher", size, unipc(STEPS * WITHIN))
            for file in args.judge:
                lora.load(load_file(file))
                judged(os.path.basename(file).removesuffix(".safetensors"), size, walked(lora.factors))
        return
    walkers = {s: Walkers(s, share(args.batch, s), share(args.pool, s), texts) for s in sizes}
    for s in sizes:
        for _ in range(STEPS):
            round_of(walkers[s], 1.0 if not args.init else 0.5)
        if DEVICE == "cuda":
            trainer.lr.fill_(0)
            train(walkers[s])
            torch.cuda.synchronize()
        log("ready at", s)
    begin, step, turn = time.time(), 0, 0
    while (fraction := (time.time() - begin) / args.seconds) < 1 and time.time() - common.START < args.deadline:
        w = walkers[args.sizes[turn % len(args.sizes)]]
        turn += 1
        round_of(w, 1.0 if fraction < 0.1 and not args.init else 0.2)
        for _ in range(args.rounds):
            trainer.lr.fill_(cosine(fraction, step, args.lr, 50))
            each, at = train(w)
            step += 1
        for k in range(STEPS):
            v = each[at == k].mean().item()
            if math.isfinite(v):
                w.losses[k] = v if w.losses[k] is None else 0.8 * w.losses[k] + 0.2 * v
        if turn % (1 if args.tiny else 20) == 0:
            log(f"step {step} at {w.size}: {[v and round(v, 5) for v in w.losses]} gradient {trainer.norm.item():.3f} lr {trainer.lr.item():.1e}")
    log("trained", step, "steps in", f"{time.time() - begin:.0f} s")
    save_file(lora.tensors(averaged()), f"{args.out}/few_steps.safetensors", metadata={"format": "pt"})
    lora.load(load_file(f"{args.out}/few_steps.safetensors"))
    for size in sizes:
        judged("teacher", size, unipc(STEPS * WITHIN))
        judged("student", size, walked(lora.factors))
    if args.baselines:
        for size in sizes:
            judged("4 steps guided", size, unipc(STEPS))
            judged("second order", size, taught)
            judged("untrained", size, walked(None))


if __name__ == "__main__":
    main()
