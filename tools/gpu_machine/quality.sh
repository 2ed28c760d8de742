#!/usr/bin/env bash
# On the GPU machine, after `. kit/unpack.sh` and with program.tar.xz (and data.tar.xz) unpacked in $GPU_KIT/program:
# measures everything that docs/quality.md says of the demo model. Several processes a GPU share the prompts, because one
# alone waits for its own launches and comparisons; the judge looks at clips while others are rendered. The most important
# comes first, prompt by prompt: what time ends is complete for fewer prompts.
#
# usage: OUT=folder SECONDS_LEFT=580 quality.sh      run.sh quality does it
#
# In OUT: quality.tar.gz with figures, scores, times, logs and tables, written anew every 40 s, and pictures.tar of some
# clips. `deno task quality DIR` makes the tables of docs/quality.md from the folder that quality.tar.gz was unpacked in.
#
#   MODEL            the model's folder; default: the demo model of data.tar.xz
#   LANES            a line for each GPU: what comes before a command to run it there; default: one GPU
#   GPU=dawn         adapter, as for --gpu
#   PROCESSES=8      a GPU's processes
#   FIRST=48         prompts of the largest size that come before other sizes
#   STUDY_UNTIL, INT8_UNTIL    the seconds from the start until which these, and int8 at 512x512, may take
#   PICTURES="3,9"   prompts whose clips are brought back
#   OTHERS           a line for each further setting at the largest size, such as "narrow: vorta router=/tmp/x.safetensors"
#   SIZES="512 256 128", FRAMES_512=61, EXTRA   other sizes, and further options such as --steps 2, for a rehearsal
set -u
end=$((${SECONDS_LEFT:-580} - 8))
stop=$((end - 25)) # of rendering: then the last clips are judged, and all is packed
work=${WORK:-/tmp/quality}
program=${GPU_KIT:-/tmp/gpu-kit}/program
GPU=${GPU:-dawn} MODEL=${MODEL:-$program/demo} PROCESSES=${PROCESSES:-8} EXTRA=${EXTRA:-} FIRST=${FIRST:-48}
SIZES=${SIZES:-512 256 128} PICTURES=${PICTURES:-3,9,20,33,40,52}
STUDY_UNTIL=${STUDY_UNTIL:-$((end * 66 / 100))} INT8_UNTIL=${INT8_UNTIL:-$((end * 77 / 100))}
MODEL=$(cd "$MODEL" && pwd) || exit 1
others=()
while IFS= read -r setting; do [ -z "$setting" ] || others+=(--setting "$setting"); done <<<"${OTHERS:-}"
mapfile -t lanes <<<"${LANES:-}"
read -r large middle small <<<"$SIZES"
results=$work/results clips=$work/clips
rm -rf "$work"
mkdir -p "$results/logs" "$OUT"
exec > >(tee -a "$results/logs/all.log") 2>&1
export OMP_NUM_THREADS=1

say() { echo "== ${SECONDS}s $*"; }
clip() { [ "$1" = "$large" ] && echo "--size $1x$1 --frames ${FRAMES_512:-61}" || echo "--size $1x$1 --frames ${FRAMES:-29}"; }

# quality LANE SECONDS ARGUMENTS...: in a subshell, whose process becomes the program
quality() {
  local lane=$1 limit=$2
  shift 2
  cd "$work" || exit 1
  # shellcheck disable=SC2086  # words
  exec timeout -s KILL "$limit" $lane deno run --quiet -A --unstable-worker-options --no-config --no-lock --no-remote \
    --cached-only "$program/quality.js" --gpu "$GPU" --model "$MODEL" --prompts "$program/py/prompts64.txt" "$@" $EXTRA
}

# list LANE PROCESS SIZE NAME UNTIL ARGUMENTS...: some of the prompts, by one process; it is started again if it dies
list() {
  local lane=$1 process=$2 size=$3 name=$4 until=$5 try status
  shift 5
  for try in 1 2 3; do
    [ $((until - SECONDS)) -gt 4 ] && [ $((stop - SECONDS)) -gt 4 ] || return
    # shellcheck disable=SC2046  # words
    (quality "$lane" $((stop - SECONDS + 1)) $(clip "$size") --out "$clips/$size" --share "$work/shared/$size-$name" --resume \
      --save "$results/$size-$name-$process.json" --seconds $((until - SECONDS)) "$@") >>"$results/logs/$size-$name-$process.log" 2>&1
    status=$?
    [ $status = 0 ] && return
    say "$size-$name-$process: exit $status, $(tail -n 1 "$results/logs/$size-$name-$process.log")"
  done
}

# times LANE NAME ARGUMENTS...: seconds of a clip, with nothing else on this GPU
times() {
  local lane=$1 name=$2
  shift 2
  # shellcheck disable=SC2046  # words
  (quality "$lane" 80 $(clip "$large") --timing 3 --save "$results/times-$name.json" "$@") >"$results/logs/times-$name.log" 2>&1
  say "times of $name: exit $?"
}

# recall LANE SIZE KEEPS: how well Veda's scores select tiles
recall() {
  # shellcheck disable=SC2046,SC2086  # words
  (cd "$work" && exec timeout -s KILL 150 $1 deno run --quiet -A --unstable-worker-options --no-config --no-lock --no-remote \
    --cached-only "$program/veda_quality.js" --gpu "$GPU" --model "$MODEL" --prompts "$program/py/prompts64.txt" --json \
    $(clip "$2") --count 2 --looks 2 --keeps "$3" --tiles "$MODEL/tiles.safetensors" ${EXTRA/--steps/--sampling-steps}) \
    >"$work/recall-$2" 2>"$results/logs/recall-$2.log" && mv "$work/recall-$2" "$results/recall-$2.json"
  say "recall at $2: exit $?"
}

# all LANE PROCESS: every list, the most important first. The last prompts of the largest size come last.
all() {
  local lane=$1 process=$2 size
  study() { list "$lane" "$process" "$large" 1-study "$1" --study "${@:2}"; }
  int8() {
    list "$lane" "$process" "$large" 2-int8 "$1" --precision int8 --full "$clips/$large/full" --setting "full, int8: full" \
      --setting "vorta, int8: vorta" --setting "veda keep 0.1, int8: veda keep=0.1" "${@:2}"
  }
  few=(--lora "$MODEL/few_steps.safetensors" --setting "few: preset=demo")
  study "$STUDY_UNTIL" --count "$FIRST"
  int8 "$INT8_UNTIL" --count "$FIRST"
  [ ${#others[@]} = 0 ] || list "$lane" "$process" "$large" 3-others "$INT8_UNTIL" --full "$clips/$large/full" "${others[@]}"
  for size in $small $middle; do
    list "$lane" "$process" "$size" 1-precisions "$stop" --precision f32 --also int8 --setting vorta --setting "veda keep=0.25"
  done
  list "$lane" "$process" "$small" 2-few "$stop" --precision f32 --full "$clips/$small/full" "${few[@]}" \
    --setting "few vorta: vorta preset=demo" --setting "few veda: veda preset=demo" --setting "few pab: full preset=demo cache=pab"
  list "$lane" "$process" "$small" 3-caches "$stop" --precision f32 --full "$clips/$small/full" \
    --setting "first-block: full cache=first-block" --setting "pab: full cache=pab" --setting "easy: full cache=easy" \
    --setting "vorta pab: vorta cache=pab"
  list "$lane" "$process" "$middle" 2-few "$stop" --precision f32 --full "$clips/$middle/full" "${few[@]}"
  list "$lane" "$process" "$middle" 3-sparse "$stop" --precision f32 --full "$clips/$middle/full" \
    --setting "random routes: vorta routes=random" --setting "both: vorta full-branch=veda keep=0.25" \
    --setting "veda keep=0.5" --setting "veda keep=0.125"
  study "$stop"
  int8 "$stop"
}

# tables SIZE: of all that was measured so far
tables() {
  local parts
  parts=$(find "$results" -name "$1-*.json" -not -name '*judged*' | sort | paste -sd,)
  [ -z "$parts" ] || (quality "" 20 --parts "$parts" $([ -f "$results/judged-$1.json" ] && echo --judged "$results/judged-$1.json") \
    $([ "$1" = "$large" ] && [ -f "$results/times-study.json" ] && echo --times "$results/times-study.json")) >"$results/table-$1.md" 2>&1
}

pictures() {
  (cd "$program/py" && timeout $((end + 6 - SECONDS)) nice python3 pictures.py "$clips" prompts64.txt --sizes $SIZES --prompts "$PICTURES" --out "$work/pictures" \
    >"$results/logs/pictures.log" 2>&1 && tar c -C "$work/pictures" . >"$work/pictures.tar" && mv "$work/pictures.tar" "$OUT/pictures.tar")
}

pack() { tar cz -C "$results" . >"$work/packed" && mv "$work/packed" "$OUT/quality.tar.gz"; }

cp "$program/commit" "$results/" 2>/dev/null
nvidia-smi --query-gpu=name,driver_version,clocks.sm --format=csv,noheader 2>/dev/null
judges=()
for size in $SIZES; do
  (cd "$program/py" && exec nice python3 judge_settings.py "$clips/$size" prompts64.txt --until "$work/rendered" --delete --keep full \
    --keep-prompts "$PICTURES" --processes "$([ "$size" = "$large" ] && echo 10 || echo 5)" --json "$results/judged-$size.json") \
    >"$results/logs/judge-$size.log" 2>&1 &
  judges+=($!)
done
renders=()
for lane in "${!lanes[@]}"; do
  (
    if [ "$lane" = $((${#lanes[@]} - 1)) ]; then
      times "${lanes[$lane]}" study --study
      times "${lanes[$lane]}" int8 --precision int8 --setting vorta --setting "veda keep=0.1"
    fi
    [ "$lane" = 0 ] && (recall "${lanes[0]}" "$large" 0.2,0.1,0.05; recall "${lanes[0]}" "$middle" 0.5,0.25,0.125) &
    for process in $(seq "$PROCESSES"); do all "${lanes[$lane]}" "$lane$process" & done
    wait
  ) &
  renders+=($!)
done
drawn=0
while [ $SECONDS -lt $stop ]; do
  alive=0
  for process in "${renders[@]}"; do kill -0 "$process" 2>/dev/null && alive=1; done
  [ $alive = 0 ] && break
  if [ $((SECONDS % 40)) -lt 2 ]; then
    pack
    say "clips: $(cat "$results"/logs/*-*-*.log 2>/dev/null | grep -c '^prompt .* decode'), seen: $(grep -o '"[0-9]*": {"color' "$results"/judged-*.json 2>/dev/null | wc -l)"
    nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader 2>/dev/null | paste -sd' '
  fi
  if [ $drawn = 0 ] && [ $SECONDS -gt $((INT8_UNTIL + 5)) ]; then
    drawn=1
    pictures &
  fi
  sleep 2
done
touch "$work/rendered"
for process in "${judges[@]}"; do
  while kill -0 "$process" 2>/dev/null && [ $SECONDS -lt $((end - 10)) ]; do sleep 0.5; done
done
say "all ended, or time is up"
pack
for size in $SIZES; do tables "$size"; done
pack
cat "$results"/table-*.md | grep '^|' | cut -c 1-220
pictures
