#!/usr/bin/env bash
# On the GPU machine, after run.sh has unpacked program and data: trains the demo model's router and measures what it
# does to the clips of the 64 prompts. Not part of run.sh: it takes some minutes.
#
# usage: vorta.sh train NAME [OPTIONS of train router...]     router and log in $OUT/NAME
#        vorta.sh quality [OPTIONS of bench:quality...]      figures, and what the judge sees
set -eu
here=$(cd "$(dirname "$0")" && pwd)
demo=$here/../demo
GPU_KIT=${GPU_KIT:-/tmp/gpu-kit}
program=$GPU_KIT/program
run_js() { deno run --quiet -A --unstable-worker-options --no-config --no-lock --no-remote --cached-only "$program/$1" "${@:2}"; }

case $1 in
  train)
    run_js tilereel.js train router --prompts "$demo/prompts_router.txt" --cache /tmp/latents --out "/tmp/routers/$2" \
      "${@:3}" 2>&1 | tail -n 3
    mkdir -p "$OUT/$2"
    cp "/tmp/routers/$2/router.safetensors" "/tmp/routers/$2/metrics.jsonl" "$OUT/$2/"
    ;;
  quality)
    rm -rf /tmp/clips
    run_js quality.js --prompts "$demo/prompts64.txt" --out /tmp/clips "${@:2}"
    for setting in /tmp/clips/*; do (cd "$demo" && python3 judge.py "$setting" prompts64.txt) || true; done
    ;;
esac
