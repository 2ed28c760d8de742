"""Procedural captioned clips of moving shapes.

A clip is fully described by its caption, so a generated clip can be judged against its prompt (judge.py). One
renderer serves NumPy (judging, tests) and PyTorch (training, in batches on the GPU): the formulas are shared.

Coordinates: x to the right and y downwards, both from -1 to 1 across the frame; time from 0 to 1 across the clip, or
across an object's scene where one scene follows another.
"""
import math
import random

import numpy as np

SHAPES = ["circle", "square", "triangle", "diamond", "ring", "cross"]
COLORS = {
    "red": (0.90, 0.12, 0.12), "green": (0.10, 0.75, 0.20), "blue": (0.15, 0.30, 0.95), "yellow": (0.98, 0.88, 0.10),
    "purple": (0.60, 0.15, 0.80), "orange": (1.00, 0.55, 0.05), "cyan": (0.10, 0.85, 0.90), "white": (0.97, 0.97, 0.97),
}
BACKGROUNDS = {
    "black": (0.02, 0.02, 0.02), "gray": (0.45, 0.45, 0.45), "navy": (0.05, 0.08, 0.30), "teal": (0.02, 0.35, 0.35),
    "maroon": (0.30, 0.03, 0.08),
}
PATTERNS = ["plain", "striped", "checkered"]
PATTERN_LIGHT = 0.18
SIZES = {"small": 0.20, "": 0.29, "big": 0.40}
MOTIONS = [
    "moving left", "moving right", "moving up", "moving down", "bouncing", "circling", "growing", "shrinking",
    "spinning", "standing still",
]
#: Motions that leave the frame and come back: what is drawn at the end has to agree with what left.
RETURNS = ["moving left then right", "moving right then left", "moving up then down", "moving down then up"]
#: Motions of clips of two scenes, which are twice as fast: those that the autoencoder can still follow then.
SCENE_MOTIONS = [m for m in MOTIONS if m not in ("bouncing", "circling")]
#: Frames of a clip by its side.
FRAMES = {128: 29, 256: 29, 512: 61}


def scene_change(frames):
    """The first frame of the second of two scenes: where a latent frame begins, each of which holds 4 frames."""
    latent_frames = (frames - 1) // 4 + 1
    return 4 * (latent_frames // 2) - 3


def sample_object(rng, color=None, motions=MOTIONS):
    """One object: what the caption says of it, and the place, phase and speed that it leaves open."""
    return dict(
        shape=rng.choice(SHAPES), color=color or rng.choice(list(COLORS)), size=rng.choice(list(SIZES)),
        motion=rng.choice(motions), a=rng.uniform(-0.45, 0.45), b=rng.uniform(-0.45, 0.45),
        phase=rng.uniform(0, 2 * math.pi), speed=rng.uniform(0.9, 1.1),
    )


def _apart(first, second):
    """Whether two objects stay clear of each other most of the time: a caption's second object has to be seen."""
    t = np.linspace(0, 1, 12)
    (ax, ay, ar, _), (bx, by, br, _) = path(first, t), path(second, t)
    return np.mean(np.hypot(ax - bx, ay - by) > 1.05 * (ar + br)) >= 0.6


def _other_color(rng, first):
    return rng.choice([c for c in COLORS if c != first["color"]])


def sample_clip(rng, two=0.35, far=0.0):
    """A clip with one object, or with probability `two` with two of different colours that mostly stay apart.

    With probability `far`, it needs a long range: an object leaves the frame and comes back, or there are two scenes,
    one with each object.
    """
    kind = ("return" if rng.random() < 0.6 else "scenes") if far and rng.random() < far else ""
    scenes = kind == "scenes"
    objects = [sample_object(rng, motions=RETURNS if kind == "return" else SCENE_MOTIONS if scenes else MOTIONS)]
    if scenes:
        objects.append(sample_object(rng, _other_color(rng, objects[0]), SCENE_MOTIONS))
    elif rng.random() < two:
        color = _other_color(rng, objects[0])
        motions = MOTIONS + RETURNS if kind else MOTIONS
        for _ in range(24):
            pair = [objects[0], sample_object(rng, color, motions)]
            if _apart(*pair):
                break
            # Only the open variables are drawn again, so that captions stay equally likely.
            for o in pair:
                o.update(a=rng.uniform(-0.5, 0.5), b=rng.uniform(-0.5, 0.5), phase=rng.uniform(0, 2 * math.pi))
            if _apart(*pair):
                break
        objects = pair
    pattern = rng.choices(PATTERNS, [0.6, 0.2, 0.2])[0]
    return dict(objects=objects, background=rng.choice(list(BACKGROUNDS)), pattern=pattern, scenes=scenes)


def caption(clip):
    """The sentence that describes a clip."""
    parts = [f"a {o['size'] + ' ' if o['size'] else ''}{o['color']} {o['shape']} {o['motion']}" for o in clip["objects"]]
    plain = clip["pattern"] == "plain"
    return (" then " if clip["scenes"] else " and ").join(parts) + f" on a {'' if plain else clip['pattern'] + ' '}{clip['background']} background"


def parse(text):
    """The reverse of `caption`: a clip's objects, background and pattern (without place, phase and speed)."""
    body, _, ground = text.removesuffix(" background").rpartition(" on a ")
    words = ground.split()
    objects = []
    scenes = " then a " in body
    for part in body.removeprefix("a ").split(" then a " if scenes else " and a "):
        w = part.split()
        size = w.pop(0) if w[0] in SIZES else ""
        objects.append(dict(size=size, color=w[0], shape=w[1], motion=" ".join(w[2:])))
    return dict(objects=objects, background=words[-1], pattern=words[0] if len(words) > 1 else "plain", scenes=scenes)


def path(o, t):
    """Centre x, centre y, radius and angle of one object at times t (NumPy array) in [0, 1]."""
    r0, s, m = SIZES[o["size"]], o["speed"], o["motion"]
    cx, cy, r, th = (np.full_like(t, v) for v in (o["a"], o["b"], r0, 0.0))
    sweep = (t - 0.5) * 1.3 * s
    if m == "moving left":
        cx = -sweep
    elif m == "moving right":
        cx = sweep
    elif m == "moving up":
        cy = -sweep
    elif m == "moving down":
        cy = sweep
    elif m == "bouncing":
        # Two hops of one height; at 128 pixels no faster than 10 a frame, which the autoencoder can still follow.
        cy = 0.5 - 0.9 * np.abs(np.sin(t * 1.5 * math.pi * s + o["phase"] % math.pi))
    elif m == "circling":
        turn = 2 * math.pi * s * t + o["phase"]
        cx, cy = 0.45 * np.cos(turn), 0.45 * np.sin(turn)
    elif m == "growing":
        r = r0 * (0.35 + 1.15 * t)
    elif m == "shrinking":
        r = r0 * (1.5 - 1.15 * t)
    elif m in RETURNS:
        # Out and back at one speed; the farthest place is outside the frame even for what is big.
        out = 1.95 * s * (1 - abs(2 * t - 1)) - 0.3
        way = m.split()[1]
        if way in ("left", "right"):
            cx = out if way == "right" else -out
        else:
            cy = out if way == "down" else -out
    elif m == "spinning":
        th = 2 * math.pi * 0.75 * s * t + o["phase"]
    return cx, cy, r, th


def shape_sdf(xp, shape, u, v, r):
    """Signed distance, negative inside, at (u, v) in the object's own axes. `xp`: numpy or torch."""
    if shape == "circle":
        return xp.sqrt(u * u + v * v) - r
    if shape == "square":
        return xp.maximum(abs(u), abs(v)) - 0.88 * r
    if shape == "triangle":
        return xp.maximum(abs(u) * 0.866 + v * 0.5, -v) - 0.62 * r
    if shape == "diamond":
        return (abs(u) + abs(v) - 1.25 * r) * 0.707
    if shape == "ring":
        return abs(xp.sqrt(u * u + v * v) - 0.78 * r) - 0.24 * r
    if shape == "cross":
        flat = xp.maximum(abs(u) - r, abs(v) - 0.32 * r)
        return xp.minimum(flat, xp.maximum(abs(v) - r, abs(u) - 0.32 * r))
    raise ValueError(f"no such shape: {shape}")


def pattern_light(xp, pattern, x, y, size):
    """How much of each pixel the pattern's light half covers, 0 to 1, anti-aliased."""
    def half(s, slope):
        # slope: how much s changes over one pixel. The light half is where s mod 2 lies in [1, 2).
        return ((0.5 - abs(s % 2 - 1.5)) / slope + 0.5).clip(0, 1)
    if pattern == "striped":
        return half((x + y) * 3.0, 3.0 * math.sqrt(2) * 2 / size)
    if pattern == "checkered":
        a, b = half(x * 2.0, 4 / size), half(y * 2.0, 4 / size)
        return a + b - 2 * a * b
    return x * 0


def paths(clips, frames):
    """float32 [B, 2, 4, T]: x, y, radius and angle of both objects; while missing one has radius 0 far outside."""
    t, change = np.linspace(0, 1, frames), scene_change(frames)
    spans = slice(0, change), slice(change, frames)
    halves = [np.linspace(0, 1, s.stop - s.start) for s in spans]
    out = np.zeros((len(clips), 2, 4, frames), np.float32)
    out[:, :, 0] = 9.0
    for i, c in enumerate(clips):
        for k, o in enumerate(c["objects"]):
            if c["scenes"]:
                out[i, k, :, spans[k]] = path(o, halves[k])
            else:
                out[i, k] = path(o, t)
    return out


def render_numpy(clip, frames, size):
    """One clip, uint8 [T, H, W, 3]: what `render` makes, without PyTorch."""
    g = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    y, x = np.meshgrid(g, g, indexing="ij")
    base = np.asarray(BACKGROUNDS[clip["background"]], np.float32) + PATTERN_LIGHT * pattern_light(np, clip["pattern"], x, y, size)[..., None]
    out = np.broadcast_to(base, (frames, size, size, 3)).copy()
    for k, o in enumerate(clip["objects"]):
        cx, cy, r, th = (p[:, None, None] for p in paths([clip], frames)[0, k])
        px, py = x[None] - cx, y[None] - cy
        u, v = px * np.cos(th) + py * np.sin(th), -px * np.sin(th) + py * np.cos(th)
        alpha = (0.5 - shape_sdf(np, o["shape"], u, v, r) * size / 2).clip(0, 1)[..., None]
        out = out * (1 - alpha) + np.asarray(COLORS[o["color"]], np.float32) * alpha
    return (out * 255).round().astype(np.uint8)


def render(clips, frames, size, device, crop=None):
    """Clips as float32 [B, 3, T, H, W] in [-1, 1] on `device`.

    `crop`: (t0, frames, y0, x0, side) renders only that part. The host waits for nothing: what the device needs goes
    there in two copies from pinned memory.
    """
    import torch

    t0, n, y0, x0, side = crop or (0, frames, 0, 0, size)
    count = len(clips)

    def upload(parts):
        host = torch.from_numpy(np.concatenate([np.asarray(q).reshape(-1) for q in parts]))
        sent = (host.pin_memory() if torch.device(device).type == "cuda" else host).to(device, non_blocking=True)
        return sent.split([np.size(q) for q in parts])

    # By object and shape: each shape's formula runs once over just its clips.
    rows = {}
    for i, c in enumerate(clips):
        for k, o in enumerate(c["objects"]):
            rows.setdefault((k, o["shape"]), []).append(i)
    keys = sorted(rows)
    floats = [paths(clips, frames)[..., t0:t0 + n], np.asarray([BACKGROUNDS[c["background"]] for c in clips], np.float32)]
    floats += [np.asarray([COLORS[clips[i]["objects"][k]["color"]] for i in rows[k, s]], np.float32) for k, s in keys]
    ints = [np.asarray([PATTERNS.index(c["pattern"]) for c in clips])] + [np.asarray(rows[key]) for key in keys]
    with torch.no_grad():
        p, ground, *colors = upload(floats)
        pattern, *places = upload(ints)
        p, ground = p.view(count, 2, 4, n), ground.view(count, 3, 1, 1)
        g = (torch.arange(size, device=device) + 0.5) / size * 2 - 1
        y, x = torch.meshgrid(g[y0:y0 + side], g[x0:x0 + side], indexing="ij")
        lights = torch.stack([pattern_light(torch, name, x, y, size) for name in PATTERNS])
        out = ground + PATTERN_LIGHT * lights[pattern][:, None]
        out = out[:, :, None].expand(-1, -1, n, -1, -1).contiguous()
        for (k, shape), ii, color in zip(keys, places, colors):
            cx, cy, r, th = p[ii, k].unbind(1)
            cx, cy, r, cos, sin = (q[:, :, None, None] for q in (cx, cy, r, th.cos(), th.sin()))
            px, py = x - cx, y - cy
            sdf = shape_sdf(torch, shape, px * cos + py * sin, py * cos - px * sin, r)
            alpha = (0.5 - sdf * (size / 2)).clamp(0, 1)[:, None]
            old = out[ii]
            out[ii] = old + (color.view(-1, 3, 1, 1, 1) - old) * alpha
        return out * 2 - 1


def prompts(count, seed, far=0.0):
    """`count` captions, half of them with two objects, that a seed fixes. `far`: the share that needs a long range."""
    rng = random.Random(seed)
    return [caption(sample_clip(rng, 1.0 if i % 2 else 0.0, far)) for i in range(count)]
