"""Judges clips of several settings as `deno task bench:quality --out` writes them: FOLDER/SETTING/NNN.npy is a clip of
line NNN of the prompts, from 0. Writes {setting: {prompt: {score: [true, ...]}}} as JSON, which --judged reads.

usage: judge_settings.py FOLDER PROMPTS.txt --json OUT [--until FILE] [--delete] [--keep SETTING] [--keep-prompts N,N] [--seconds N]
                         [--processes N]

With --until, it goes on looking for new clips until FILE is there. With --delete, it removes a clip that is judged, unless it is
of the setting of --keep or of a prompt of --keep-prompts.
"""
import argparse
import json
import multiprocessing
import os
import time

import numpy as np

import clips as C
import judge


def look(task):
    """(setting, prompt, marks) of a clip; an exception's text instead of marks where it cannot be judged."""
    path, setting, number, text, delete = task
    try:
        marks = judge.compare(C.parse(text), judge.see(np.load(path)))
    except (Exception, SystemExit) as error:  # One bad clip does not lose the others.
        return setting, number, f"{type(error).__name__}: {error}"
    if delete:
        os.remove(path)
    return setting, number, {name: [bool(mark) for mark in values] for name, values in marks.items()}


def new_clips(folder, known):
    """Paths of clips that are not known yet, with setting and number."""
    for setting in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        inside = os.path.join(folder, setting)
        for name in sorted(os.listdir(inside)) if os.path.isdir(inside) else []:
            if name.endswith(".npy") and (setting, name) not in known:
                known.add((setting, name))
                yield os.path.join(inside, name), setting, int(name[:-4])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("folder")
    p.add_argument("prompts")
    p.add_argument("--json", required=True)
    p.add_argument("--until")
    p.add_argument("--delete", action="store_true")
    p.add_argument("--keep")
    p.add_argument("--keep-prompts", type=lambda text: {int(n) for n in text.split(",")}, default=set())
    p.add_argument("--seconds", type=float, default=float("inf"))
    p.add_argument("--processes", type=int)
    args = p.parse_args()
    with open(args.prompts) as f:
        prompts = [line.strip() for line in f if line.strip()]
    known, seen, waiting, end = set(), {}, [], time.monotonic() + args.seconds
    with multiprocessing.get_context("fork").Pool(args.processes) as pool:
        while True:
            last = args.until is None or os.path.exists(args.until)
            for path, setting, number in new_clips(args.folder, known):
                delete = args.delete and setting != args.keep and number not in args.keep_prompts
                waiting.append(pool.apply_async(look, ((path, setting, number, prompts[number], delete),)))
            ready = [result for result in waiting if result.ready()]
            waiting = [result for result in waiting if not result.ready()]
            for result in ready:
                setting, number, marks = result.get()
                if isinstance(marks, str):
                    print(f"{setting}, prompt {number}: {marks}")
                else:
                    seen.setdefault(setting, {})[str(number)] = marks
            if ready:
                with open(f"{args.json}.part", "w") as f:
                    json.dump(seen, f)
                os.replace(f"{args.json}.part", args.json)
            if last and not waiting or time.monotonic() > end:
                break
            time.sleep(0.2)
    for setting, clips in sorted(seen.items()):
        judge.show(f"{setting}: {len(clips)} clips", judge.table(list(clips.values())))


if __name__ == "__main__":
    main()
