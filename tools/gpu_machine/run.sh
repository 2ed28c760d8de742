#!/usr/bin/env bash
# On the GPU machine, after `. kit/unpack.sh`: unpacks program and data, runs the jobs named one after the other on both
# sources of devices, and prints what was measured beside what it should be, last. Each job has a limit of its own; one
# that fails does not keep the others from running. The most important come first: what there is no time for is left out.
#
# usage: run.sh GROUP|JOB...
#
#   figures   every figure of docs/performance.md and the times of docs/quality.md, 15 minutes:
#             figures-dawn, figures-clips, figures-deno, figures-tokens. On two GPUs 9, with the first and the last of
#             these on one, the others on the other, and a GPU_KIT for each
#   all       kernels, then steps, then memory
#   kernels   info, check, bench, sparse, parity            4 to 10 minutes
#   steps     info, torch, step, step14, sparse14           5 to 10 minutes
#   memory    info, peak, profile, demo, stream, resident, text   5 to 10 minutes; stream16 is stream with bf16 files
#   sweep     every variant of every kernel, at the sizes that count, beside what an adapter's arithmetic makes
#   headline  info, headline: whole clips with sparse attention, a step cache and few steps   10 minutes
#   training  seconds of a sample of a router and of a state of tiles, of the SHAPES="1.3b hunyuan 14b"
#   quality   every figure of docs/quality.md: figures and scores of 64 prompts at 512x512, 256x256 and 128x128, see quality.sh
#
# Results are in $OUT: table.md, log.txt (all output) and results.tar.gz (JSON, logs and profiles), written anew after
# every job, so that they are there when the call is stopped. Figures of several calls go in one table by
# `deno run -A bench/targets.ts DIR...`, given where their results.tar.gz were unpacked; those of figures go into the docs
# by `deno task figures DIR...`.
#
#   SECONDS_LEFT=900   for all of it; a job gets no more than what is left; SCALE=2 doubles the limits of the jobs
#   SOURCES="dawn deno"   which are run; PRECISION_dawn=auto, PRECISION_deno=auto (f32, f16)
#   SIZE=small         small sizes and short limits: for a rehearsal without a GPU
#   GPU_dawn=dawn, GPU_deno=auto   adapters, as for --gpu
set -u
begun=$(date +%s)
here=$(cd "$(dirname "$0")" && pwd)
GPU_KIT=${GPU_KIT:-/tmp/gpu-kit}
OUT=$(mkdir -p "${OUT:-$GPU_KIT/out}" && cd "${OUT:-$GPU_KIT/out}" && pwd)
SECONDS_LEFT=${SECONDS_LEFT:-900}
SOURCES=${SOURCES:-dawn deno}
SCALE=${SCALE:-1}
SIZE=${SIZE:-full}
PRECISION_dawn=${PRECISION_dawn:-auto} PRECISION_deno=${PRECISION_deno:-auto}
GPU_dawn=${GPU_dawn:-dawn} GPU_deno=${GPU_deno:-auto}
program=$GPU_KIT/program
results=$GPU_KIT/results
mkdir -p "$results"
: >>"$results/jobs.tsv"

# unpack ARCHIVE: into the program's folder, unless it is what lies there.
unpack() {
  local mark=$program/.$(basename "$1")
  if [ ! -f "$1" ] || cmp -s "$1" "$mark"; then return; fi
  mkdir -p "$program"
  # Such machines have Python, but not always xz.
  python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$1" "$program" && cp "$1" "$mark"
}

for archive in program.tar.xz ../data/data.tar.xz ../references/references.tar.xz; do unpack "$here/$archive" || exit 1; done
cd "$program" || exit 1
cp commit "$results/"

left() { echo $((SECONDS_LEFT - ($(date +%s) - begun))); }

# bundle: what has been measured so far, where it is brought back from
bundle() {
  run_js targets.js "$results" >"$results/table.md" 2>"$results/table.log"
  cp "$results/table.md" "$OUT/table.md"
  tar -C "$results" -czf "$OUT/results.part" . && mv "$OUT/results.part" "$OUT/results.tar.gz"
}

# lacks NAME PATH: whether what a job needs was not carried; then it is left out
lacks() {
  [ ! -e "$program/$2" ] || return 1
  echo "== $1: left out, $2 was not carried" | tee -a "$OUT/log.txt"
  printf '%s\tleft out: %s was not carried\t0\t0\n' "$1" "$2" >>"$results/jobs.tsv"
}

# job NAME SECONDS COMMAND...: the command under its limit, its output in the log
job() {
  local name=$1 limit=$(($2 * SCALE)) start status left
  shift 2
  left=$(left)
  if [ "$left" -lt 15 ]; then
    echo "== $name: left out, no time" | tee -a "$OUT/log.txt"
    printf '%s\tleft out\t0\t0\n' "$name" >>"$results/jobs.tsv"
    return
  fi
  [ "$limit" -lt "$left" ] || limit=$((left - 8))
  start=$(date +%s)
  echo "== $name (limit $limit s, $left s left)" | tee -a "$OUT/log.txt"
  timeout --kill-after=5 "$limit" "$@" >"$results/$name.log" 2>&1
  status=$?
  # Progress is written over itself.
  tr '\r' '\n' <"$results/$name.log" | tail -n 40 | cut -c 1-400 | tee -a "$OUT/log.txt"
  echo "-- $name: exit $status after $(($(date +%s) - start)) s" | tee -a "$OUT/log.txt"
  printf '%s\t%s\t%s\t%s\n' "$name" "$status" $(($(date +%s) - start)) "$limit" >>"$results/jobs.tsv"
  bundle
}

# run_js NAME.js ARGUMENTS...: nothing but what was carried can be used
run_js() {
  deno run --quiet -A --unstable-worker-options --no-config --no-lock --no-remote --cached-only "$program/$1" "${@:2}"
}
export program results SIZE
export -f run_js

# js NAME SECONDS PROGRAM.js ARGUMENTS...: the job on each source, with its JSON in NAME-SOURCE.json
js() {
  local name=$1 limit=$2 source gpu precision
  shift 2
  for source in $SOURCES; do
    gpu=GPU_$source precision=PRECISION_$source
    job "$name-$source" "$limit" bash -c 'run_js "$@"' "$name" "$@" --save "$results/$name-$source.json" \
      --gpu "${!gpu}" $(precision_of "$1" "${!precision}")
  done
}

# Some measure every precision.
precision_of() {
  case $1 in
    bench.js | arithmetic.js) ;;
    *) echo "--precision $2" ;;
  esac
}

# figures PART SOURCE SECONDS NAMES: sections of bench/figures.ts, if the source is one of those that are run. NVIDIA's
# driver keeps no compiled kernels meanwhile, so that the time of a first use is that.
figures() {
  [[ " $SOURCES " = *" $2 "* ]] || return 0
  local gpu=GPU_$2
  # shellcheck disable=SC2086  # options are several words
  job "figures-$1-$2" $(($3 + 15)) env __GL_SHADER_DISK_CACHE=0 bash -c 'run_js figures.js "$@"' figures $size --seconds "$3" --only "$4" \
    --gpu "${!gpu}" --save "$results/figures-$1-$2.json"
}

py() { python3 "$program/py/$1" "${@:2}"; }
export -f py

info() {
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null
  for gpu in "$@"; do run_js tilereel.js info --gpu "$gpu" || return; done
}

# Twice: the driver keeps compiled kernels, so that the second run starts faster.
demo() {
  for run in 1 2; do
    run_js tilereel.js generate "a big red circle moving right on a black background" --seed 1 --json \
      --out "$results/demo.mp4" "$@" || return
  done
}
export -f info demo

if [ "$SIZE" = small ]; then
  memory="" size="--size small" shape="--shape small" shape14="--shape small" torch="--shape small --no-compile"
  clip="--layers 1 --size 64x64 --frames 5 --steps 1" clip14="$clip" text="--size small --layers 2" references=$results/check
else
  memory="--memory 100GB" size="--size large" shape="--shape 1.3b" shape14="--shape 14b" torch="" text=""
  clip="--size 832x480 --frames 81 --steps 2" clip14="--shape 14b --layers 3 --size 1280x720 --frames 81 --steps 2" references=tests/fixtures
fi
mkdir -p "$results/check" && ln -sfn "$program/tests/fixtures/tiny_hd128" "$results/check/tiny_hd128"

run() {
  # shellcheck disable=SC2086  # options are several words
  case $1 in
    figures) for part in figures-dawn figures-clips figures-deno figures-tokens; do run $part; done ;;
    # What is compared comes first. A part begins nothing new after its seconds, so that it is not stopped in the middle of
    # a measurement.
    figures-dawn)
      figures core dawn 200 "first,gemm,sparse,step,clip"
      job torch 190 bash -c 'py torch_baseline.py "$@" --save "$results/torch.json"' torch $torch
      figures more dawn 200 "tune,step14,waver,tokens"
      ;;
    # The demo model is in the part data of pack.sh.
    figures-clips)
      lacks figures-demo demo || figures demo dawn 100 demo
      figures clips dawn 150 "hunyuan,clips14"
      ;;
    figures-deno)
      figures core deno 150 "first,gemm,step,sparse,clip"
      figures more deno 110 "tune,step14"
      ;;
    figures-tokens) figures tokens deno 80 tokens ;;
    all) for part in kernels steps memory; do run $part; done ;;
    kernels) for part in info check bench sparse parity; do run $part; done ;;
    steps) for part in info torch step step14 sparse14; do run $part; done ;;
    memory) for part in info peak profile demo stream resident text; do run $part; done ;;
    sweep)
      run info
      run arithmetic
      for pair in dawn-f16 deno-f32 deno-f16 dawn-f32; do
        local gpu=GPU_${pair%-*}
        [[ " $SOURCES " = *" ${pair%-*} "* ]] || continue
        job "sweep-$pair" 190 bash -c 'run_js sweep.js "$@"' sweep $size --gpu "${!gpu}" --precision "${pair#*-}" \
          --save "$results/sweep-$pair.json"
      done
      ;;
    headline)
      run info
      # The two sources have a limit each; on native Deno, where blocks take four times as long, parts are timed once.
      # Waver's layers would take longer than all the rest there.
      for source in $SOURCES; do
        local gpu=GPU_$source precision=PRECISION_$source limit=360 few=""
        [ "$source" = dawn ] || limit=240 few="--samples 1 --models hunyuan,14b,1.3b"
        job "headline-$source" "$limit" bash -c 'run_js headline.js "$@"' headline $size $few $memory \
          --gpu "${!gpu}" --precision "${!precision}" --save "$results/headline-$source.json"
      done
      ;;
    quality)
      [ "$SIZE" = small ] && export SIZES="128 64 32" FRAMES_512=5 FRAMES=5 PROCESSES=1 EXTRA="--steps 1 --count 1"
      lacks quality "demo" || job quality 590 env OUT="$OUT" GPU="$GPU_dawn" SECONDS_LEFT=$(($(left) - 10)) bash "$here/quality.sh"
      ;;

    info) job info 60 bash -c 'info "$@"' info $(for source in $SOURCES; do gpu=GPU_$source && echo "${!gpu}"; done) ;;
    check)
      lacks check tests/fixtures/tiny_hd128 || for source in $SOURCES; do
        local gpu=GPU_$source
        job "check-$source" 120 bash -c 'run_js tilereel.js parity "$@"' parity "$results/check" --gpu "${!gpu}"
      done
      ;;
    parity)
      lacks parity demo || lacks parity tests/fixtures/tiny_hd64 || for source in $SOURCES; do
        local gpu=GPU_$source
        job "parity-$source" 200 bash -c 'run_js tilereel.js parity "$@"' parity "$references" --gpu "${!gpu}"
      done
      ;;
    training)
      for of in ${SHAPES:-1.3b hunyuan 14b}; do
        [ "$SIZE" = small ] && of=${of/hunyuan*/hunyuan-small} && of=${of/1*/small}
        js "training-$of" 240 training.js --shape "$of" --blocks 2
      done
      ;;
    bench) js bench 160 bench.js $size ;;
    arithmetic) js arithmetic 40 arithmetic.js ;;
    sparse) js sparse 70 sparse.js $shape ;;
    sparse14) js sparse14 110 sparse.js $shape14 --keeps 0.2,0.1,0.05 ;;
    step) js steps 150 steps.js $shape ;;
    step14) js steps14 200 steps.js $shape14 ;;
    # Files are F32, as Wan-AI's: 5.7 GB of 1.3B, 7 GB of three blocks of 14B.
    peak) js memory 150 full_size.js $clip --stored f32 ;;
    stream) js stream 200 full_size.js $clip14 --stored f32 --weights stream ;;
    resident) js resident 200 full_size.js $clip14 --stored f32 --weights resident ;;
    stream16) js stream16 200 full_size.js $clip14 --stored bf16 --weights stream ;;
    # 22.7 GB are written, and read twice.
    text) js text 200 text_encoder.js --stored f32 $text ;;
    profile)
      for source in $SOURCES; do
        local gpu=GPU_$source
        job "profile-$source" 120 bash -c 'run_js full_size.js "$@"' profile $clip --gpu "${!gpu}" \
          --profile "$results/trace-$source.json"
      done
      ;;
    demo)
      lacks demo demo || for source in $SOURCES; do
        local gpu=GPU_$source
        job "demo-$source" 50 bash -c 'demo "$@"' demo --gpu "${!gpu}"
      done
      ;;
    torch)
      lacks torch-check tests/fixtures/tiny_hd128 || job torch-check 60 bash -c 'py torch_baseline.py --check "$program/tests/fixtures/tiny_hd128"'
      job torch 200 bash -c 'py torch_baseline.py "$@" --save "$results/torch.json"' torch $torch
      ;;
    *)
      echo "run.sh: no job is called $1" >&2
      printf '%s\tunknown\t0\t0\n' "$1" >>"$results/jobs.tsv"
      ;;
  esac
}

[ $# -gt 0 ] || set -- all
for name in "$@"; do run "$name"; done
bundle
printf '\n'
cat "$results/table.md"
echo "all of it took $(($(date +%s) - begun)) s; $(du -sh "$OUT" | cut -f1) in $OUT"
awk -F '\t' '$2 != 0 { bad = 1 } END { exit bad }' "$results/jobs.tsv"
