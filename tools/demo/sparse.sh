#!/usr/bin/env bash
# Trains a model's router (clips at 128, 256 and 512), tiles for each of these sizes, and LoRA for 4 steps, all at once on
# a GPU machine: one process alone leaves much of a GPU idle. What time ends is saved and made into a result.
#
# usage: OUT=folder SECONDS_LEFT=330 tools/demo/sparse.sh MODEL
#
# Needs DIFFUSERS_SRC, and tilereel: `. kit/unpack.sh`, and program.tar.xz unpacked in $GPU_KIT/program (tools/gpu_machine).
#   LANE_A, LANE_B    what comes before a command to run it on one of two GPUs: tiles at 512 and the router, and the others
#   GPU=dawn          adapter, as for --gpu
#   SIZES="128 256 512"   whose tiles are trained; STEPS_ROUTER=100, STEPS_TILES=600, LORA_SECONDS=110 (0: none)
#   EXTRA             further options for all of tilereel's commands, such as --sampling-steps 4 in a rehearsal
# In OUT: sparse.tar.gz with the results, plans, logs and metrics, written anew every 40 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
end=$((${SECONDS_LEFT:-330} - 8))
work=${WORK:-/tmp/sparse}
GPU=${GPU:-dawn} STEPS_ROUTER=${STEPS_ROUTER:-100} STEPS_TILES=${STEPS_TILES:-600} SIZES=${SIZES-128 256 512}
LORA_SECONDS=${LORA_SECONDS:-110} LANE_A=${LANE_A:-} LANE_B=${LANE_B:-}
program=${GPU_KIT:-/tmp/gpu-kit}/program
rm -rf "$work"
mkdir -p "$work"/{logs,lora,packed} "$OUT"
exec > >(tee -a "$work/logs/all.log") 2>&1
model=$work/model
cp -r "$1" "$model"
head -n 3 "$here/prompts_router.txt" >"$work/search.txt"
# Half of the router's clips at 128, a quarter each at 256 and 512.
python3 - "$here/prompts_router.txt" >"$work/router.jsonl" <<'PY'
import json, sys
sizes = [("128x128", 29), ("256x256", 29), ("128x128", 29), ("512x512", 61)]
for i, line in enumerate(open(sys.argv[1]).read().splitlines()[:48]):
    size, frames = sizes[i % 4]
    print(json.dumps({"prompt": line, "size": size, "frames": frames}))
PY

say() { echo "== ${SECONDS}s $*"; }
left() { echo $((end - SECONDS - ${1:-0})); }
clip() { [ "$1" = 512 ] && echo --size 512x512 --frames 61 || echo --size "$1x$1" --frames 29; }

# tilereel LANE ARGUMENTS...: in a subshell, whose process becomes the program, so that a signal reaches it.
tilereel() {
  local lane=$1
  shift
  cd "$work" || exit 1
  # shellcheck disable=SC2086  # words
  exec $lane deno run --quiet -A --no-config --no-lock --no-remote --cached-only "$program/tilereel.js" "$@" ${EXTRA:-} \
    --model "$model" --gpu "$GPU" --memory 100GB
}

# train LANE router|tiles NAME STEPS OPTIONS...
train() {
  local lane=$1 kind=$2 name=$3 steps=$4 out=$work/$3 began=$SECONDS finished=0 status
  shift 4
  tilereel "$lane" train "$kind" --out "$out" --steps "$steps" "$@" >"$work/logs/$name.log" 2>&1 &
  local process=$!
  while kill -0 $process 2>/dev/null; do
    sleep 1
    # Once: a second Ctrl-C would lose steps.
    if [ "$(left 40)" -le 0 ]; then
      kill -INT $process 2>/dev/null
      break
    fi
  done
  wait $process
  status=$?
  [ -f "$out/metrics.jsonl" ] && finished=$(wc -l <"$out/metrics.jsonl")
  say "$name: exit $status, $finished steps in $((SECONDS - began)) s"
  if [ $status != 0 ] && [ "$finished" -gt 0 ]; then
    (tilereel "$lane" train "$kind" --out "$out" --steps "$finished" --resume "$@") >>"$work/logs/$name.log" 2>&1
    say "$name: exit $? with these steps as its result"
  fi
}

# tiles LANE SIZE TOKENS KEEP
tiles() {
  local lane=$1 size=$2 tokens=$3 keep=$4 shapes="--tile-tokens $3"
  # shellcheck disable=SC2046  # words
  (tilereel "timeout -s KILL 75 $lane" search tiles --prompts "$work/search.txt" $(clip "$size") --tile-tokens "$tokens" --keep "$keep" \
    --out "$work/plan$size.safetensors") >"$work/logs/plan$size.log" 2>&1
  say "plan$size: exit $?"
  # Where the search took too long, one shape serves all heads.
  [ -f "$work/plan$size.safetensors" ] && shapes="--plan $work/plan$size.safetensors"
  # shellcheck disable=SC2046,SC2086  # words
  train "$lane" tiles "tiles$size" "$STEPS_TILES" --prompts "$here/prompts_router.txt" $(clip "$size") $shapes --keep "$keep" --checkpoint-every 50
}

pack() {
  local name file
  for name in router tiles128 tiles256 tiles512; do
    for file in router.safetensors tiles.safetensors metrics.jsonl; do
      [ -f "$work/$name/$file" ] && cp "$work/$name/$file" "$work/packed/$name.${file##*.}"
    done
  done
  cp "$work"/plan*.safetensors "$work"/lora/* "$work"/logs/* "$work/packed/" 2>/dev/null
  tar cz -C "$work/packed" . >"$work/packed.tar.gz" && mv "$work/packed.tar.gz" "$OUT/sparse.tar.gz"
}

jobs=()
for size in $SIZES; do
  case $size in
    128 | 256) tiles "$LANE_B" "$size" 32 0.25 & ;;
    512) tiles "$LANE_A" 512 128 0.1 & ;;
  esac
  jobs+=($!)
done
train "$LANE_A" router router "$STEPS_ROUTER" --prompts "${ROUTER_PROMPTS:-$work/router.jsonl}" --density 0.5 --cache "$work/latents" --checkpoint-every 5 &
jobs+=($!)
if [ "$LORA_SECONDS" != 0 ]; then
  # shellcheck disable=SC2086  # words
  (
    cd "$here" && PYTHONUNBUFFERED=1 timeout -s KILL "$(left 6)" $LANE_B python3 distill.py "$model" prompts64.txt --seconds "$LORA_SECONDS" \
      --deadline "$(left 60)" --sizes 128 128 256 --out "$work/lora" >"$work/logs/lora.log" 2>&1
    say "lora: exit $?"
  ) &
  jobs+=($!)
fi
while [ "$(left)" -gt 0 ]; do
  alive=0
  for process in "${jobs[@]}"; do kill -0 "$process" 2>/dev/null && alive=1; done
  [ $alive = 0 ] && break
  [ $((SECONDS % 40)) -lt 2 ] && pack
  sleep 2
done
say "all ended, or time is up"
pack
