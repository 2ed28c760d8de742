"""Looks at clips of the demo model and says what it sees: background, colours, shapes, motions, number of objects.

Needs NumPy only. Classical: the background is the palette's image that most pixels agree with, an object is what has
another palette colour, its shape the mask template that overlaps best (still, or turning at the renderer's speed),
its motion the renderer's path that lies closest to its centres. It also sees whether an object is drawn twice at once,
whether it stays itself (its shape, and there in every frame where its path does not hide it), and flicker.

usage: judge.py --selftest [COUNT] [--sizes 128 256 512]    accuracy on rendered clips
       judge.py CLIPS.npy PROMPTS.txt [--json OUT]    clips uint8 [N, T, H, W, 3] against their prompts
       judge.py FOLDER PROMPTS.txt [--json OUT]       FOLDER/000.npy, ... or FOLDER/000/*.png (needs Pillow), one a prompt
       judge.py --see CLIP                            what one clip (.npy or folder of frames) shows
"""
import argparse
import json
import math
import multiprocessing
import os
import random
import sys

import numpy as np

import clips as C

SIDE = 128
#: What is asked of the demo model.
GOALS = {"color": 0.97, "background": 0.97, "motion": 0.97, "count": 0.97, "shape": 0.93}
CELLS = 28  # side of the grid on which masks meet templates
#: A second piece of an object counts from this share of the largest; an object may be so often in two or missing.
PIECE, SELDOM = 0.15, 0.08
#: By how much another shape may overlap better in a part of a clip.
SHAPE_MARGIN = 0.06
#: Most change of the background from frame to frame that is not steady (mean second difference, of 1), and of an object's
#: area (of itself).
BACKGROUND_FLICKER, AREA_FLICKER = 0.012, 0.12
REACH = 2.1  # that grid's half side, in square roots of the mask's area over pi


def _grounds():
    g = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y, x = np.meshgrid(g, g, indexing="ij")
    out = {}
    for p in C.PATTERNS:
        light = C.PATTERN_LIGHT * C.pattern_light(np, p, x, y, SIDE)[..., None]
        for b, rgb in C.BACKGROUNDS.items():
            out[b, p] = (np.asarray(rgb) + light).astype(np.float32)
    return out


GROUNDS = _grounds()
NAMES = list(C.COLORS)
PALETTE = np.asarray([C.COLORS[n] for n in NAMES], np.float32)
TURNS = {"circle": 1, "ring": 1, "square": 4, "diamond": 4, "triangle": 3, "cross": 4}
ANGLES = 12  # templates over one turn's symmetry


def _templates():
    """Per shape, masks [angles, CELLS, CELLS] of area pi in units where the grid spans REACH."""
    g = ((np.arange(CELLS * 4) + 0.5) / (CELLS * 4) * 2 - 1) * REACH
    y, x = np.meshgrid(g, g, indexing="ij")
    out = {}
    for s in C.SHAPES:
        masks = []
        for k in range(ANGLES):
            th = 2 * math.pi / TURNS[s] * k / ANGLES
            u, v = x * math.cos(th) + y * math.sin(th), -x * math.sin(th) + y * math.cos(th)
            inside = lambda r: C.shape_sdf(np, s, u, v, r) < 0
            r = math.sqrt(math.pi / (inside(1.0).mean() * (2 * REACH) ** 2))
            masks.append(inside(r).reshape(CELLS, 4, CELLS, 4).mean((1, 3)))
        out[s] = np.asarray(masks, np.float32)
    return out


TEMPLATES = _templates()


def _shrink(video):
    """Any square uint8 clip -> float32 [T, SIDE, SIDE, 3] in [0, 1]."""
    t, h, w, _ = video.shape
    k = min(h, w) // SIDE
    if k < 1 or h % SIDE or w % SIDE or h != w:
        raise SystemExit(f"clips must be square with a side that is a multiple of {SIDE}, not {w}x{h}")
    v = video.astype(np.float32) / 255
    return v if k == 1 else v.reshape(t, SIDE, k, SIDE, k, 3).mean((2, 4))


def _background(v):
    """(name, pattern): the image that most pixels of the clip lie near."""
    some = v[:: max(1, len(v) // 6)]
    def agreement(key):
        d = np.abs(some - GROUNDS[key]).max(-1)
        return (np.clip(1 - d / 0.16, 0, 1)).mean()
    return max(GROUNDS, key=agreement)


def _erode(m):
    p = np.pad(m, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    return m & p[:, :-2, 1:-1] & p[:, 2:, 1:-1] & p[:, 1:-1, :-2] & p[:, 1:-1, 2:]


def _grow(m, steps):
    for _ in range(steps):
        p = np.pad(m, ((0, 0), (1, 1), (1, 1)))
        m = p[:, :-2, 1:-1] | p[:, 2:, 1:-1] | p[:, 1:-1, :-2] | p[:, 1:-1, 2:] | m
    return m


def _labels(v, ground):
    """[T, H, W]: the palette colour each pixel shows, -1 for background or an edge's mixture."""
    d = np.stack([((v - c) ** 2).sum(-1) for c in PALETTE], -1)
    best, near = d.argmin(-1), np.sqrt(d.min(-1))
    away = np.sqrt(((v - ground) ** 2).sum(-1))
    return np.where((near < 0.32) & (near < away), best, -1)


def _centres(mask):
    """Per frame area and centre (frame units) of a soft mask."""
    g = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    area = mask.sum((1, 2))
    safe = np.maximum(area, 1e-6)
    return area, (mask.sum(1) * g).sum(1) / safe, (mask.sum(2) * g).sum(1) / safe


def _canon(mask, area, x, y):
    """A mask moved and scaled onto the templates' grid."""
    half = REACH * math.sqrt(area / math.pi)
    g = (np.arange(CELLS * 2) + 0.5) / (CELLS * 2) * 2 - 1
    col, row = ((g * half + (c + 1) / 2 * SIDE - 0.5) for c in (x, y))
    def pick(at):
        lo = np.floor(at).astype(int)
        return np.clip(lo, 0, SIDE - 1), np.clip(lo + 1, 0, SIDE - 1), at - lo, (at > -1) & (at < SIDE)
    r0, r1, fr, okr = pick(row)
    c0, c1, fc, okc = pick(col)
    a = mask[r0][:, c0] * (1 - fc) + mask[r0][:, c1] * fc
    b = mask[r1][:, c0] * (1 - fc) + mask[r1][:, c1] * fc
    m = (a * (1 - fr)[:, None] + b * fr[:, None]) * okr[:, None] * okc
    return m.reshape(CELLS, 2, CELLS, 2).mean((1, 3))


def _overlaps(mask):
    """IoU of a canonical mask with every template: {shape: [angles]}."""
    out = {}
    for s, t in TEMPLATES.items():
        both = np.minimum(t, mask).sum((1, 2))
        out[s] = both / (t.sum((1, 2)) + mask.sum() - both)
    return out


def _shape(masks, times, areas, xs, ys, may_spin):
    """(shape, spinning, score) from a clip's clean frames."""
    order = np.argsort(-areas)[:10] if not may_spin else np.unique(np.linspace(0, len(areas) - 1, 12).round().astype(int))
    rows = {s: [] for s in C.SHAPES}
    for i in order:
        for s, o in _overlaps(_canon(masks[i], areas[i], xs[i], ys[i])).items():
            rows[s].append(o)
    best = (-1.0, None, False)
    for s in C.SHAPES:
        o = np.asarray(rows[s])
        best = max(best, (float(o[:, 0].mean()), s, False), key=lambda b: b[0])
        if may_spin and TURNS[s] > 1:
            fold = 2 * math.pi / TURNS[s]
            for speed in np.linspace(0.8, 1.2, 9):
                for start in np.arange(ANGLES):
                    k = (start + 2 * math.pi * 0.75 * speed * times[order] / fold * ANGLES) % ANGLES
                    lo = np.floor(k).astype(int)
                    n = np.arange(len(order))
                    score = (o[n, lo % ANGLES] * (1 - (k - lo)) + o[n, (lo + 1) % ANGLES] * (k - lo)).mean()
                    best = max(best, (float(score) - 0.015, s, True), key=lambda b: b[0])
    return best[1], best[2], best[0]


def _motion(t, x, y, area):
    """The renderer's path closest to the centres; 'still' motions are told apart by area (and later by turning)."""
    def error(px, py):
        return float(np.mean((x - px) ** 2 + (y - py) ** 2))
    mx, my = x.mean(), y.mean()
    costs = {"still": error(mx, my)}
    for s in np.linspace(0.7, 1.2, 6):
        sweep = (t - 0.5) * 1.3 * s
        for name, px, py in (("moving left", -sweep, my), ("moving right", sweep, my), ("moving up", mx, -sweep), ("moving down", mx, sweep)):
            costs[name] = min(costs.get(name, 9), error(px, py))
    for s in np.linspace(0.88, 1.12, 7):
        out = 1.95 * s * (1 - abs(2 * t - 1)) - 0.3
        for name, px, py in (("left then right", -out, my), ("right then left", out, my), ("up then down", mx, -out), ("down then up", mx, out)):
            name = "moving " + name
            costs[name] = min(costs.get(name, 9), error(px, py))
    for s in np.linspace(0.85, 1.15, 7):
        for phase in np.linspace(0, math.pi, 24, endpoint=False):
            hop = np.abs(np.sin(t * 1.5 * math.pi * s + phase))
            costs["bouncing"] = min(costs.get("bouncing", 9), error(mx, 0.5 - 0.9 * hop))
        for phase in np.linspace(0, 2 * math.pi, 32, endpoint=False):
            turn = 2 * math.pi * s * t + phase
            costs["circling"] = min(costs.get("circling", 9), error(0.45 * np.cos(turn), 0.45 * np.sin(turn)))
    motion = min(costs, key=costs.get)
    if motion == "still":
        slope = np.polyfit(t, np.sqrt(np.maximum(area, 1)), 1)
        middle = np.polyval(slope, t.mean())
        rate = slope[0] / max(middle, 1e-6)
        motion = "growing" if rate > 0.4 else "shrinking" if rate < -0.4 else "still"
    return motion


def _pieces(mask):
    """Per frame the areas of a mask's largest and second connected piece, at half the resolution, [T, 2]."""
    t, h, w = mask.shape
    m = mask.reshape(t, h // 2, 2, w // 2, 2).any((2, 4))
    ids = np.where(m, np.arange(1, m[0].size + 1, dtype=np.int32).reshape(m[0].shape), 0)
    while True:
        new = ids
        for axis in (1, 2):
            p = np.pad(new, [(1, 1) if a == axis else (0, 0) for a in range(3)])
            n = new.shape[axis]
            new = np.maximum(new, np.maximum(p.take(range(n), axis), p.take(range(2, n + 2), axis)))
        new = np.where(m, new, 0)
        if (new == ids).all():
            break
        ids = new
    return np.asarray([np.sort(np.append(np.bincount(f[f > 0])[1:] if f.any() else [], [0, 0]))[:-3:-1] for f in ids])


def _stays(masks, areas, xs, ys, shape, turning):
    """Whether an object has its shape in each quarter of its clean frames."""
    parts = [p[np.linspace(0, len(p) - 1, 3).round().astype(int)] for p in np.array_split(np.arange(len(areas)), 4) if len(p) >= 3]
    own = {"square", "diamond"} if turning and shape in ("square", "diamond") else {shape}
    for part in parts:
        part = [i for i in part if areas[i] > 120]
        if len(part) < 2:
            continue
        rows = [_overlaps(_canon(masks[i], areas[i], xs[i], ys[i])) for i in part]
        score = {s: float(np.mean([r[s].max() if turning else r[s][0] for r in rows])) for s in C.SHAPES}
        if max(score.values()) > max(score[s] for s in own) + SHAPE_MARGIN:
            return False
    return True


def _missing(there, touching, returning):
    """The share of frames in which an object is missing that neither another object nor its way out of the frame hides."""
    lost, i, n = 0, 0, len(there)
    while i < n:
        if there[i]:
            i += 1
            continue
        j = i
        while j < n and not there[j]:
            j += 1
        hidden = (i > 0 and touching[i - 1]) or (j < n and touching[j])
        if not hidden and not (returning and i > 0 and j < n and i <= n // 2 <= j):
            lost += j - i
        i = j
    return lost / n


def _second_difference(v):
    return np.abs(v[2:] - 2 * v[1:-1] + v[:-2])


def _flicker(v, ground, labels):
    """Mean second difference in time of what is background in three frames on end."""
    still = ~_grow(labels >= 0, 6)
    some = still[2:] & still[1:-1] & still[:-2]
    return float(_second_difference(v).mean(-1)[some].mean()) if some.any() else 0.0


def see(video):
    """What a clip (uint8 [T, H, W, 3]) shows: background, pattern, flicker, and objects from the largest on."""
    v = _shrink(video)
    frames = len(v)
    name, pattern = _background(v)
    ground = GROUNDS[name, pattern]
    labels = _labels(v, ground)
    change = C.scene_change(frames)
    found = []
    for k, color in enumerate(NAMES):
        core = _erode(labels == k).sum((1, 2))
        if (core >= 8).mean() >= 0.36 and core.sum() >= 14 * frames:
            found.append((float(core.sum()), k))
    found.sort(reverse=True)
    # An edge's mixture can look like a third colour; it has little core beside the object that it borders.
    found = [f for f in found if f[0] > 0.06 * found[0][0]][:4]
    objects = []
    for _, k in found:
        rgb = PALETTE[k]
        span = rgb - ground
        alpha = np.clip(((v - ground) * span).sum(-1) / np.maximum((span * span).sum(-1), 1e-3), 0, 1)
        other = np.zeros_like(alpha, bool)
        for _, j in found:
            other |= (labels == j) if j != k else False
        # Only what has a core: an edge between two other colours can be this one, but is thin.
        near = _grow(_erode(labels == k), 3)
        own = (labels == k) & near
        touching = (near & other).any((1, 2))
        mask = np.where(near & ~other, np.maximum(alpha, own), 0)
        off = np.abs(((v - ground) - alpha[..., None] * span)).max(-1)
        mask = np.where(off < 0.35, mask, own)
        area, x, y = _centres(mask)
        border = (own[:, 0].any(1) | own[:, -1].any(1) | own[:, :, 0].any(1) | own[:, :, -1].any(1))
        seen = area > 20
        # Of two scenes, each object has its own, with a time of its own.
        first, second = seen[:change].mean(), seen[change:].mean()
        scene = 0 if first > 0.7 and second < 0.1 else 1 if second > 0.7 and first < 0.1 else None
        span = slice(0, frames) if scene is None else (slice(0, change), slice(change, frames))[scene]
        t = np.zeros(frames)
        t[span] = np.linspace(0, 1, span.stop - span.start)
        inside = np.zeros(frames, bool)
        inside[span] = True
        seen &= inside
        clean = seen & ~border & ~touching
        for fallback in (seen & ~border, seen & ~touching, seen):
            if clean.sum() < 5:
                clean = fallback
        i = np.flatnonzero(clean)
        motion = _motion(t[i], x[i], y[i], area[i])
        shape, spins, score = _shape(mask[i], t[i], area[i], x[i], y[i], motion == "still")
        if motion == "still":
            motion = "spinning" if spins else "standing still"
        # Frames next to those where objects meet count as such, since there one begins to hide the other.
        meets = touching | np.append(touching[1:], False) | np.append(False, touching[:-1])
        pieces = _pieces(own)
        twice = ((pieces[:, 1] > np.maximum(PIECE * pieces[:, 0], 4)) & ~meets)[span].mean()
        lost = _missing(own[span].any((1, 2)), meets[span], motion in C.RETURNS)
        # Areas only where in three frames on end all of it is seen.
        whole = seen & ~border & ~meets
        three = whole[2:] & whole[1:-1] & whole[:-2]
        unsteady = float((_second_difference(area) / np.maximum(area[1:-1], 1))[three].mean()) if three.any() else 0.0
        objects.append(dict(
            color=NAMES[k], shape=shape, motion=motion, scene=scene, fit=round(score, 3), twice=round(float(twice), 3),
            lost=round(lost, 3), stays=_stays(mask[i], area[i], x[i], y[i], shape, spins), flicker=round(unsteady, 4),
        ))
    return dict(background=name, pattern=pattern, flicker=round(_flicker(v, ground, labels), 4), objects=objects)


def _same_motion(shape, wanted, got):
    # A turning circle or ring looks as if it stood still.
    still = {"spinning", "standing still"}
    return wanted == got or (shape in ("circle", "ring") and wanted in still and got in still)


def _same_shape(motion, wanted, got):
    # A turning square and a turning diamond are the same.
    return wanted == got or (motion == "spinning" and {wanted, got} == {"square", "diamond"})


def compare(wanted, seen):
    """Marks of one clip: lists of booleans, one a clip or one for each object that is wanted.

    `once`: it is not drawn twice; `same`: it keeps its shape and is never lost; `order`: it is in its scene;
    `steady`: nothing flickers.
    """
    marks = {k: [] for k in ("color", "shape", "motion", "background", "pattern", "count", "both", "once", "same", "order", "steady")}
    marks["background"].append(wanted["background"] == seen["background"])
    marks["pattern"].append(wanted["pattern"] == seen["pattern"])
    marks["count"].append(len(wanted["objects"]) == len(seen["objects"]))
    by_color = {o["color"]: o for o in seen["objects"]}
    for o in wanted["objects"]:
        got = by_color.get(o["color"])
        marks["color"].append(got is not None)
        # An object that is not there has no shape or motion either.
        marks["shape"].append(got is not None and _same_shape(o["motion"], o["shape"], got["shape"]))
        marks["motion"].append(got is not None and _same_motion(o["shape"], o["motion"], got["motion"]))
        marks["once"].append(got is not None and got["twice"] <= SELDOM)
        marks["same"].append(got is not None and got["stays"] and got["lost"] <= SELDOM)
    if wanted["scenes"]:
        marks["order"] += [o["color"] in by_color and by_color[o["color"]]["scene"] == k for k, o in enumerate(wanted["objects"])]
    marks["steady"].append(seen["flicker"] <= BACKGROUND_FLICKER and all(o["flicker"] <= AREA_FLICKER for o in seen["objects"]))
    if len(wanted["objects"]) == 2:
        marks["both"].append(all(o["color"] in by_color for o in wanted["objects"]))
    return marks


def table(all_marks):
    """{attribute: (share, number judged)} over clips."""
    out = {}
    for k in all_marks[0]:
        values = [m for marks in all_marks for m in marks[k]]
        out[k] = (float(np.mean(values)) if values else float("nan"), len(values))
    return out


def show(title, shares):
    print(title)
    for k, (share, n) in shares.items():
        goal = f"  (goal {GOALS[k]:.0%})" if k in GOALS else ""
        print(f"  {k:<11} {share:6.1%} of {n}{goal}")


def _load(path):
    if path.endswith(".npy"):
        return np.load(path)
    from PIL import Image
    names = sorted(f for f in os.listdir(path) if f.endswith(".png"))
    return np.stack([np.asarray(Image.open(os.path.join(path, f)).convert("RGB")) for f in names])


def _clips(path):
    if path.endswith(".npy"):
        yield from np.load(path, mmap_mode="r")
        return
    for name in sorted(os.listdir(path)):
        if name.endswith(".npy") or os.path.isdir(os.path.join(path, name)):
            yield _load(os.path.join(path, name))


def _see_all(videos):
    """`see` of every clip, on all cores."""
    with multiprocessing.get_context("fork").Pool() as pool:
        yield from pool.imap(see, (np.asarray(v) for v in videos))


def judge_all(videos, prompts, title, out=None):
    """Judges clips against prompts, prints the table and the misses, returns the shares."""
    marks, rows = [], []
    for text, seen in zip(prompts, _see_all(videos)):
        m = compare(C.parse(text), seen)
        marks.append(m)
        rows.append(dict(prompt=text, seen=seen, marks=m))
    shares = table(marks)
    show(f"{title}: {len(marks)} clips", shares)
    if out:
        with open(out, "w") as f:
            json.dump({"shares": shares, "clips": rows}, f, indent=1)
    return shares


def selftest(count, sizes=tuple(C.FRAMES), seed=5, verbose=False, far=0.4):
    """Accuracy on rendered clips; True when every attribute reaches 99 %."""
    good = True
    for size in sizes:
        rng, marks = random.Random(seed), []
        clips = [C.sample_clip(rng, 0.5, far) for _ in range(count)]
        for clip, seen in zip(clips, _see_all(C.render_numpy(c, C.FRAMES[size], size) for c in clips)):
            m = compare(clip, seen)
            marks.append(m)
            if verbose and not all(all(v) for v in m.values()):
                print("MISS", [k for k, v in m.items() if not all(v)], C.caption(clip), "->", seen)
        shares = table(marks)
        show(f"judge on {count} rendered clips at {size}", shares)
        good &= all(s >= 0.99 for s, n in shares.values() if n)
    return good


def _spoil(fault, clip, size, rng):
    """A rendered clip of one object with a fault that the judge has to notice."""
    frames, o = C.FRAMES[size], clip["objects"][0]
    render = lambda objects: C.render_numpy({**clip, "objects": objects}, frames, size)
    v, middle = render([o]), frames // 2
    if fault == "once":
        # Another one in a corner that the first stays away from.
        t = np.linspace(0, 1, frames)
        x, y, r, _ = C.path(o, t)
        corner = max(((a, b) for a in (-0.7, 0.7) for b in (-0.7, 0.7)), key=lambda c: np.mean(np.hypot(x - c[0], y - c[1]) > r + 0.35))
        return render([o, {**o, "motion": "standing still", "size": "small", "a": corner[0], "b": corner[1]}])
    if fault == "shape":
        others = [s for s in C.SHAPES if s != o["shape"] and {s, o["shape"]} != {"square", "diamond"}]
        return np.concatenate([v[:middle], render([{**o, "shape": rng.choice(others)}])[middle:]])
    if fault == "lost":
        gone = slice(int(frames * 0.1), int(frames * 0.25))
        return np.concatenate([v[:gone.start], render([])[gone], v[gone.stop:]])
    # Every second frame is a little lighter.
    return np.clip(v.astype(np.int16) + 6 * (np.arange(frames) % 2)[:, None, None, None], 0, 255).astype(np.uint8)


#: Which mark each fault takes away.
FAULTS = {"once": "once", "shape": "same", "lost": "same", "steady": "steady"}


def notices(count, size, seed=6, verbose=False):
    """The share of clips with each fault in which it is noticed; True when each is in 95 %."""
    rng, good = random.Random(seed), True
    for fault, mark in FAULTS.items():
        clips = [C.sample_clip(rng, 0.0) for _ in range(count)]
        if fault == "shape":
            # What turns or shrinks away shows its shape less than what the others show.
            clips = [{**c, "objects": [{**c["objects"][0], "motion": rng.choice(C.MOTIONS[:6])}]} for c in clips]
        noticed = []
        for clip, seen in zip(clips, _see_all(_spoil(fault, c, size, rng) for c in clips)):
            noticed.append(not all(compare(clip, seen)[mark]))
            if verbose and not noticed[-1]:
                print("NOT NOTICED", fault, C.caption(clip), "->", seen)
        print(f"  fault '{fault}' at {size}: noticed in {np.mean(noticed):.1%} of {count}")
        good &= np.mean(noticed) >= 0.95
    return good


def main():
    p = argparse.ArgumentParser()
    p.add_argument("clips", nargs="?")
    p.add_argument("prompts", nargs="?")
    p.add_argument("--json")
    p.add_argument("--title", help="above the table (default: the clips' name)")
    p.add_argument("--see")
    p.add_argument("--selftest", nargs="?", const=200, type=int)
    p.add_argument("--sizes", type=int, nargs="+", default=list(C.FRAMES), help="of the self-test")
    p.add_argument("--verbose", action="store_true")
    args = p.parse_args()
    if args.selftest:
        good = selftest(args.selftest, args.sizes, verbose=args.verbose)
        good &= all([notices(max(1, args.selftest // 4), s, verbose=args.verbose) for s in args.sizes])
        sys.exit(0 if good else 1)
    if args.see:
        print(json.dumps(see(_load(args.see)), indent=1))
        return
    if not args.clips or not args.prompts:
        p.error("clips and prompts are needed")
    with open(args.prompts) as f:
        prompts = [line.strip() for line in f if line.strip()]
    judge_all(_clips(args.clips), prompts, args.title or os.path.basename(args.clips), args.json)


if __name__ == "__main__":
    main()
