#!/usr/bin/env bash
# On the GPU machine, after run.sh has unpacked program and data: searches the demo model's tile shapes, trains its tile
# scores at 256×256, and measures both. Not part of run.sh: it takes some minutes.
#
# usage: veda.sh search|train NAME [OPTIONS of the command...]    results in /tmp/veda/NAME and $OUT/NAME
#        veda.sh measure [OPTIONS of bench:veda...]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
GPU_KIT=${GPU_KIT:-/tmp/gpu-kit}
program=$GPU_KIT/program
prompts=$here/../demo/prompts_router.txt
run_js() { deno run --quiet -A --unstable-worker-options --no-config --no-lock --no-remote --cached-only "$program/$1" "${@:2}"; }

case $1 in
  search)
    mkdir -p /tmp/veda "$OUT/$2"
    head -n 8 "$prompts" >/tmp/veda/search.txt
    run_js tilereel.js search tiles --prompts /tmp/veda/search.txt --size 256x256 --out "/tmp/veda/$2/plan.safetensors" "${@:3}"
    cp "/tmp/veda/$2/plan.safetensors" "$OUT/$2/"
    ;;
  train)
    run_js tilereel.js train tiles --prompts "$prompts" --size 256x256 --out "/tmp/veda/$2" "${@:3}" 2>&1 | tail -n 3
    mkdir -p "$OUT/$2"
    cp "/tmp/veda/$2/tiles.safetensors" "/tmp/veda/$2/metrics.jsonl" "$OUT/$2/"
    ;;
  measure)
    mkdir -p /tmp/veda
    head -n 4 "$here/../demo/prompts64.txt" >/tmp/veda/measure.txt
    run_js veda_quality.js --prompts /tmp/veda/measure.txt --size 256x256 "${@:2}"
    ;;
esac
