"""Pictures of clips that `tools/gpu_machine/quality.sh` left: FOLDER/SIZE/SETTING/NNN.npy. Needs NumPy and Pillow.

usage: pictures.py FOLDER PROMPTS.txt --sizes 512 256 128 --prompts 3,9 --out OUT

OUT/demo_SIZE.jpg has eight frames of every prompt with full attention; OUT/settings_NNN.jpg has eight frames of a prompt of
--prompts under each setting at the first size; OUT/frames_NNN_SETTING.jpg has all frames of these with full attention, VORTA
and Veda, 128 pixels wide, in rows of eight.
"""
import argparse
import os

import numpy as np
from PIL import Image

#: A sheet's rows, as far as there are such clips.
SHOWN = ["full", "vorta", "veda-keep-0-2", "veda-keep-0-1", "veda-keep-0-05", "both", "mean-pooling", "random-routes", "random-tiles"]
MOVING = ["full", "vorta", "veda-keep-0-1"]


def shrunk(clip, side, frames=None):
    """A clip with less wide frames, all or `frames` of them spread evenly."""
    some = clip if frames is None else clip[np.linspace(0, len(clip) - 1, frames).round().astype(int)]
    k = max(1, clip.shape[1] // side)
    side = clip.shape[1] // k
    return np.stack([f.reshape(side, k, side, k, 3).mean((1, 3)).round().astype(np.uint8) for f in some])


def row(clip, side):
    return np.concatenate(list(shrunk(clip, side, 8)), 1)


def sheet(rows, columns, path):
    height = -(-len(rows) // columns)
    rows = rows + [np.zeros_like(rows[0])] * (columns * height - len(rows))
    parts = [np.concatenate(rows[i * height:(i + 1) * height]) for i in range(columns)]
    Image.fromarray(np.concatenate(parts, 1)).save(path, quality=88)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("folder")
    p.add_argument("texts")
    p.add_argument("--sizes", nargs="+")
    p.add_argument("--prompts", type=lambda text: [int(n) for n in text.split(",")])
    p.add_argument("--out", required=True)
    args = p.parse_args()
    os.makedirs(args.out, exist_ok=True)
    with open(args.texts) as f:
        count = sum(1 for line in f if line.strip())

    def clip(size, setting, number):
        path = os.path.join(args.folder, size, setting, f"{number:03}.npy")
        return np.load(path, mmap_mode="r") if os.path.exists(path) else None

    for number in args.prompts:
        clips = {setting: clip(args.sizes[0], setting, number) for setting in SHOWN}
        clips = {setting: c for setting, c in clips.items() if c is not None}
        if clips:
            sheet([row(c, 192) for c in clips.values()], 1, os.path.join(args.out, f"settings_{number:03}.jpg"))
        for setting in MOVING:
            if setting in clips:
                frames = list(shrunk(clips[setting], 128))
                frames += [np.zeros_like(frames[0])] * (-len(frames) % 8)
                rows = [np.concatenate(frames[i:i + 8], 1) for i in range(0, len(frames), 8)]
                sheet(rows, 1, os.path.join(args.out, f"frames_{number:03}_{setting}.jpg"))
    for size in args.sizes:
        clips = [clip(size, "full", number) for number in range(count)]
        rows = [row(c, 64) for c in clips if c is not None]
        if rows:
            sheet(rows, 2, os.path.join(args.out, f"demo_{size}.jpg"))


if __name__ == "__main__":
    main()
