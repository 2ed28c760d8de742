"""Generates every prompt of a file with diffusers' WanPipeline, judges the clips and draws a contact sheet.

usage: sample.py MODEL PROMPTS --size 128 --steps 20 --out PREFIX     -> PREFIX.json, PREFIX.jpg (and PREFIX.npy with --keep)
"""
import argparse
import math
import time

import numpy as np
import torch

import common
import judge
from clips import FRAMES
from common import DEVICE, log


def contact_sheet(videos):
    """An image with some eight frames of every clip, in two columns."""
    from PIL import Image

    k = videos.shape[2] // 64
    small = videos[:, ::(videos.shape[1] - 1) // 7].reshape(len(videos), -1, 64, k, 64, k, 3).mean((3, 5)).astype(np.uint8)
    rows = [np.concatenate(list(v), 1) for v in small]
    half = (len(rows) + 1) // 2
    rows += [np.zeros_like(rows[0])] * (2 * half - len(rows))
    return Image.fromarray(np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:])], 1))


def generate(velocity, embed, forward, scheduler, prompts, size, frames, steps, guidance=4.0, seed=7, batch=4, until=math.inf):
    """Clips of prompts, uint8 [N, T, H, W, 3], as WanPipeline makes them, by the training programs' own functions.

    `velocity`, `forward`: train_transformer.Velocity and train_vae.Forward; `embed`: texts to embeddings; `until`: the
    second of the program behind which no further batch is begun.
    """
    config, made = forward.vae.config, []
    mean, std = (torch.tensor(v, device=DEVICE).view(1, -1, 1, 1, 1) for v in (config.latents_mean, config.latents_std))
    shape = (16, 1 + (frames - 1) // 4, size // 8, size // 8)
    for i in range(0, len(prompts), batch):
        if time.time() - common.START > until:
            break
        some = prompts[i:i + batch]
        x = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed + i + j)) for j in range(len(some))]).to(DEVICE)
        e = torch.cat([embed(some), embed([""] * len(some))]).detach()
        scheduler.set_timesteps(steps, device=DEVICE)
        for t in scheduler.timesteps:
            at = t.float().expand(2 * len(some))
            # Not without gradients: what was compiled for training would be compiled anew.
            with_text, without = velocity(torch.cat([x, x]), at, e).detach().chunk(2)
            x = scheduler.step(without + guidance * (with_text - without), t, x, return_dict=False)[0]
        with torch.no_grad():
            for z in (x * std + mean).split(max(1, (1 << 18) // (size * size))):
                y = forward.decode(z).clamp(-1, 1)
                made.append((y.permute(0, 2, 3, 4, 1) * 127.5 + 127.5).round().to(torch.uint8).cpu().numpy())
    return np.concatenate(made) if made else np.zeros((0, frames, size, size, 3), np.uint8)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("prompts")
    p.add_argument("--size", type=int, default=128)
    p.add_argument("--frames", type=int, help="default: those that the model draws at the size")
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--guidance", type=float, default=4.0)
    p.add_argument("--seed", type=int, default=7)
    p.add_argument("--count", type=int, default=10 ** 6)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--out", required=True)
    p.add_argument("--keep", action="store_true")
    args = p.parse_args()
    common.setup(0)
    from diffusers import WanPipeline

    with open(args.prompts) as f:
        prompts = [line.strip() for line in f if line.strip()][:args.count]
    pipe = WanPipeline.from_pretrained(args.model, torch_dtype=torch.float32).to(DEVICE)
    pipe.set_progress_bar_config(disable=True)

    def embed(texts):
        # What the pipeline does, without its text cleaning (which wants a package the GPU machine lacks).
        t = pipe.tokenizer(texts, padding="max_length", max_length=32, truncation=True, return_tensors="pt").to(DEVICE)
        return pipe.text_encoder(t.input_ids, t.attention_mask).last_hidden_state * t.attention_mask[..., None]

    frames = args.frames or FRAMES[args.size]
    t, videos = time.time(), []
    with torch.no_grad():
        for i in range(0, len(prompts), args.batch):
            some = prompts[i:i + args.batch]
            generators = [torch.Generator("cpu").manual_seed(args.seed + i + j) for j in range(len(some))]
            v = pipe(prompt_embeds=embed(some), negative_prompt_embeds=embed([""] * len(some)), height=args.size, width=args.size, num_frames=frames,
                     num_inference_steps=args.steps, guidance_scale=args.guidance, max_sequence_length=32, generator=generators, output_type="np").frames
            videos.append((np.asarray(v) * 255).round().astype(np.uint8))
    videos = np.concatenate(videos)
    log(f"{len(videos)} clips at {args.size} in {time.time() - t:.1f} s")
    if args.keep:
        np.save(args.out + ".npy", videos)
    contact_sheet(videos).save(args.out + ".jpg", quality=88)
    judge.judge_all(list(videos), prompts, f"{args.size}x{args.size}, {args.steps} steps, guidance {args.guidance}", args.out + ".json")


if __name__ == "__main__":
    main()
