#!/usr/bin/env bash
# Trains a model's routers (clips at 128, 256 and 512), tiles for each of these sizes, and LoRA for 4 steps, all at once on
# one GPU or two: one process alone leaves much of a GPU idle. What time ends is saved and made into a result. Then a few
# prompts are rendered at 512 with each of them, so that a bad one is seen at once.
#
# usage: OUT=folder SECONDS_LEFT=400 tools/demo/sparse.sh MODEL
#
# Needs DIFFUSERS_SRC, and tilereel: `. kit/unpack.sh`, and program.tar.xz unpacked in $GPU_KIT/program (tools/gpu_machine).
#   LANE_A, LANE_B   what comes before a command to run it on one of two GPUs
#   GPU=dawn         adapter, as for --gpu
#   ROUTERS="A:mixed:0.48 B:512:0.36"       lane, clips (mixed, 128, 256, 512) and density of each router; one for 512 has
#                    small tiles, and the mixed one comes into its file for the other sizes
#   TILES="A:512:128:0.1:kl B:256:32:0.25:kl B:128:32:0.25:kl"    lane, size, tokens, keep and loss of each training of tiles
#   STEPS_ROUTER=400 STEPS_TILES=600 LORA_SECONDS=110   0: none; LORA_INIT=file: goes on from a LoRA
#   CHECK=6          prompts that are rendered at the end, each by a process; CHECK_SECONDS=75 for that
#   EXTRA, CHECK_EXTRA   further options, such as --sampling-steps 4 in a rehearsal; S128, S256, S512: sizes of clips
# In OUT: sparse.tar.gz.aa and so on with the results, plans, logs and metrics, in parts of 15 MB, anew every 40 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
end=$((${SECONDS_LEFT:-400} - 8))
work=${WORK:-/tmp/sparse}
GPU=${GPU:-dawn} LANE_A=${LANE_A:-} LANE_B=${LANE_B:-} CHECK=${CHECK-6}
STEPS_ROUTER=${STEPS_ROUTER:-400} STEPS_TILES=${STEPS_TILES:-600} LORA_SECONDS=${LORA_SECONDS:-110}
ROUTERS=${ROUTERS-A:mixed:0.48 B:512:0.36} TILES=${TILES-A:512:128:0.1:kl B:256:32:0.25:kl B:128:32:0.25:kl}
S128=${S128:-128x128 29} S256=${S256:-256x256 29} S512=${S512:-512x512 61}
[ "$CHECK" = 0 ] && CHECK_SECONDS=0
trained=$((end - ${CHECK_SECONDS:-75} - 22)) # when trainings stop
program=${GPU_KIT:-/tmp/gpu-kit}/program
rm -rf "$work"
mkdir -p "$work"/{logs,lora,packed,check} "$OUT"
exec > >(tee -a "$work/logs/all.log") 2>&1
model=$work/model
cp -r "$1" "$model"
head -n 2 "$here/prompts_router.txt" >"$work/search.txt"
# Half of the clips of a mixed router at 512, a quarter each at 128 and 256.
python3 - "$here/prompts_router.txt" "$work" "$S128" "$S256" "$S512" <<'PY'
import json, sys
lines, work, *clips = open(sys.argv[1]).read().splitlines(), *sys.argv[2:]
s128, s256, s512 = ({"size": size, "frames": int(frames)} for size, frames in map(str.split, clips))
for name, turns in {"mixed": [s128, s512, s256, s512], "128": [s128], "256": [s256], "512": [s512]}.items():
    with open(f"{work}/{name}.jsonl", "w") as f:
        for i, line in enumerate(lines[:40]):
            f.write(json.dumps({"prompt": line, **turns[i % len(turns)]}) + "\n")
PY

say() { echo "== ${SECONDS}s $*"; }
left() { echo $(($1 - SECONDS)); }
lane() { [ "$1" = B ] && echo "$LANE_B" || echo "$LANE_A"; }
clip() { # clip SIZE: its options
  local words; words=S$1; read -r size frames <<<"${!words}"
  echo "--size $size --frames $frames"
}
run_js() { # run_js LANE FILE ARGUMENTS...: in a subshell, whose process becomes the program, so that a signal reaches it
  local lane=$1 file=$2
  shift 2
  cd "$work" || exit 1
  # shellcheck disable=SC2086  # words
  exec $lane deno run --quiet -A --unstable-worker-options --no-config --no-lock --no-remote --cached-only "$program/$file" "$@"
}
tilereel() { # tilereel LANE ARGUMENTS...
  local lane=$1
  shift
  # shellcheck disable=SC2086  # words
  run_js "$lane" tilereel.js "$@" ${EXTRA:-} --model "$model" --gpu "$GPU" --memory 60GB
}

# train LANE router|tiles NAME STEPS OPTIONS...: until it is done or time is up; without a result then
train() {
  local lane=$1 kind=$2 name=$3 steps=$4 began=$SECONDS
  shift 4
  printf '%q ' "$lane" "$kind" "$name" "$@" >"$work/$name.command"
  tilereel "$lane" train "$kind" --out "$work/$name" --steps "$steps" "$@" >"$work/logs/$name.log" 2>&1 &
  local process=$!
  while kill -0 $process 2>/dev/null; do
    sleep 1
    # Once: a second Ctrl-C would lose steps.
    if [ "$(left $trained)" -le 0 ]; then
      kill -INT $process 2>/dev/null
      break
    fi
  done
  wait $process
  say "$name: exit $?, $(wc -l 2>/dev/null <"$work/$name/metrics.jsonl") steps in $((SECONDS - began)) s"
}

# result NAME OPTIONS...: makes what was trained until now the result; options are added
result() {
  local name=$1 steps lane kind
  shift
  [ -f "$work/$name/checkpoint.safetensors" ] || return
  steps=$(wc -l <"$work/$name/metrics.jsonl")
  eval "set -- $(cat "$work/$name.command")" '"$@"'
  lane=$1 kind=$2
  shift 3
  (tilereel "timeout -s KILL 40 $lane" train "$kind" --out "$work/$name" --steps "$steps" --resume "$@") >>"$work/logs/$name.log" 2>&1 ||
    say "$name: no result of its $steps steps, see its log"
}

# router LANE CLIPS DENSITY
router() {
  local data=(--prompts "${ROUTER_PROMPTS:-$work/$2.jsonl}" --cache "$work/latents")
  [ "$2" = 512 ] && data+=(${TILES_512---tile 4x4x4 --window 3x3x3} --timestep-shift 3 --accumulate 2)
  train "$(lane "$1")" router "router-$2-$3" "$STEPS_ROUTER" "${data[@]}" --density "$3" --average 0.9 --checkpoint-every 5
}

# tiles LANE SIZE TOKENS KEEP LOSS
tiles() {
  local on=$1 size=$2 tokens=$3 keep=$4 loss=$5 plan=$work/plan$2-$3.safetensors options
  local name=tiles$size-$tokens-$loss
  # Trainings of the same tiles share a search.
  (
    flock 9
    # shellcheck disable=SC2046  # words
    [ -f "$plan" ] || [ -f "$plan.none" ] || (tilereel "timeout -s KILL 120 $(lane "$on")" search tiles --prompts "$work/search.txt" $(clip "$size") \
      --tile-tokens "$tokens" --keep "$keep" --most-shapes 2 --out "$plan") >"$work/logs/plan$size-$tokens.log" 2>&1 || touch "$plan.none"
  ) 9>"$plan.lock"
  say "$name: searched"
  # Where the search took too long, one shape serves all heads.
  [ -f "$plan" ] && options=(--plan "$plan") || options=(--tile-tokens "$tokens")
  # A loss that sees nothing but the choice gains little and wants small steps.
  [ "$loss" = retained ] && options+=(--loss retained --lr 2e-4 --warmup 20 --beta2 0.95 --clip 1)
  # shellcheck disable=SC2046  # words
  train "$(lane "$on")" tiles "$name" "$STEPS_TILES" --prompts "$here/prompts_router.txt" $(clip "$size") "${options[@]}" --keep "$keep" --checkpoint-every 50
}

# Renders some prompts at 512 with each result, and full attention. Half of the processes on each GPU.
check() {
  local settings=() file name i on processes=()
  for file in "$work"/router-*/router.safetensors; do
    [ -f "$file" ] && name=$(basename "$(dirname "$file")") && settings+=(--setting "$name: vorta router=$file")
  done
  for file in "$work"/tiles512-*/tiles.safetensors; do
    [ -f "$file" ] && name=$(basename "$(dirname "$file")") && settings+=(--setting "$name 0.1: veda tiles=$file keep=0.1" --setting "$name 0.2: veda tiles=$file keep=0.2" \
      --setting "$name second 0.1: veda tiles=$file keep=0.1 tile-scores=second-order")
  done
  if [ ${#settings[@]} = 0 ] || [ "$(left $end)" -lt 15 ]; then return; fi
  for ((i = 0; i < CHECK; i++)); do
    [ $((i % 2)) = 0 ] && on=A || on=B
    # shellcheck disable=SC2046,SC2086  # words
    (run_js "timeout -s KILL $(left $end) $(lane $on)" quality.js "${settings[@]}" --prompts "$here/prompts64.txt" --from $i --count 1 $(clip 512) \
      --model "$model" --gpu "$GPU" --save "$work/check/$i.json" ${CHECK_EXTRA:-}) >"$work/logs/check$i.log" 2>&1 &
    processes+=($!)
  done
  wait "${processes[@]}"
  (run_js "" quality.js --parts "$(echo "$work"/check/*.json | tr ' ' ,)") | sed '/heads on full/,$d' >"$work/packed/check.md"
  cat "$work/packed/check.md"
}

pack() {
  local folder name file
  for folder in "$work"/router-*/ "$work"/tiles*/; do
    name=$(basename "$folder")
    for file in router tiles; do [ -f "$folder/$file.safetensors" ] && cp "$folder/$file.safetensors" "$work/packed/$name.safetensors"; done
    # Until there is a result: it loads like one.
    [ -f "$work/packed/$name.safetensors" ] || cp "$folder/checkpoint.safetensors" "$work/packed/$name.checkpoint" 2>/dev/null
    [ -f "$work/packed/$name.safetensors" ] && rm -f "$work/packed/$name.checkpoint"
    cp "$folder/metrics.jsonl" "$work/packed/$name.jsonl" 2>/dev/null
  done
  cp "$work"/plan*.safetensors "$work"/lora/* "$work"/logs/* "$work"/check/* "$work/packed/" 2>/dev/null
  rm -rf "$work/parts" && mkdir "$work/parts"
  tar cz -C "$work/packed" . | split -b 15000000 - "$work/parts/sparse.tar.gz." && rm -f "$OUT"/sparse.tar.gz.* && mv "$work"/parts/* "$OUT/"
}

trainings() {
  local spec jobs=() latents=() shard name on
  for spec in $TILES; do
    # shellcheck disable=SC2086  # words
    tiles ${spec//:/ } &
    jobs+=($!)
  done
  # Latents are made once for all routers.
  if [ -n "$ROUTERS" ]; then
    for shard in 1 2; do
      (
        [ $shard = 1 ] && on=A || on=B
        for name in $(printf '%s\n' $ROUTERS | cut -d: -f2 | sort -ur); do
          (tilereel "$(lane $on)" train router --prepare --shard $shard/2 --prompts "${ROUTER_PROMPTS:-$work/$name.jsonl}" --cache "$work/latents" \
            --out "$work/none") >>"$work/logs/latents$shard.log" 2>&1
        done
        say "latents, shard $shard: made"
      ) &
      latents+=($!)
    done
    wait "${latents[@]}"
    for spec in $ROUTERS; do
      router ${spec//:/ } &
      jobs+=($!)
    done
  fi
  wait "${jobs[@]}"
}

# The tiles of all sizes come into each file of 512.
results() {
  local spec name before="" size tokens keep loss router
  (
    for router in "$work"/router-mixed-*/; do result "$(basename "$router")" & done
    wait
    mixed=$(find "$work"/router-mixed-* -name router.safetensors 2>/dev/null | head -n 1)
    for router in "$work"/router-*/; do
      [[ $router = */router-mixed-* ]] || result "$(basename "$router")" ${mixed:+--add-to "$mixed"} &
    done
    wait
  ) &
  for size in 128 256 512; do
    local added=$before
    for spec in $TILES; do
      IFS=: read -r _ at tokens keep loss <<<"$spec"
      [ "$at" = "$size" ] || continue
      name=tiles$size-$tokens-$loss
      if [ "$size" = 512 ]; then
        result "$name" ${before:+--add-to "$before"} &
      else
        result "$name" ${before:+--add-to "$before"}
        [ -f "$work/$name/tiles.safetensors" ] && added=$work/$name/tiles.safetensors
      fi
    done
    before=$added
  done
  wait
}

if [ "$LORA_SECONDS" != 0 ]; then
  # shellcheck disable=SC2086  # words
  (
    cd "$here" && PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 timeout -s KILL "$(left $end)" $LANE_B python3 distill.py "$model" prompts64.txt \
      --seconds "$LORA_SECONDS" --deadline "$(left $((trained - 20)))" --sizes 128 128 256 ${LORA_INIT:+--init "$LORA_INIT"} \
      --out "$work/lora" ${TINY:+--tiny} >"$work/logs/lora.log" 2>&1
    say "lora: exit $?"
  ) &
  lora=$!
fi
(
  trainings
  say "trained"
  results
  say "results"
  touch "$work/results"
  [ "$CHECK" = 0 ] || check
  touch "$work/done"
) &
all=$!
while [ "$(left $end)" -gt 0 ] && { kill -0 $all || kill -0 ${lora:-$all}; } 2>/dev/null; do
  [ $((SECONDS % 40)) -lt 2 ] && pack
  sleep 2
done
[ -f "$work/done" ] && say "done" || say "time is up"
pack
