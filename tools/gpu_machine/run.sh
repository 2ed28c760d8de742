#!/usr/bin/env bash
# On the GPU machine, after `. kit/unpack.sh`: unpacks program and data and runs the jobs named, or all of them, one after
# the other. Each has its own time limit and its own log in $OUT; one that fails does not keep the others from running.
#
# usage: run.sh [info] [parity] [bench] [sparse] [demo] [full_size] [full_size_f16]
#
# SCALE=2 doubles the limits. OPTIONS go to every job (`OPTIONS="--gpu dawn"`), FULL_SIZE_OPTIONS to full_size alone.
set -u
here=$(cd "$(dirname "$0")" && pwd)
GPU_KIT=${GPU_KIT:-/tmp/gpu-kit}
OUT=$(mkdir -p "${OUT:-$GPU_KIT/out}" && cd "${OUT:-$GPU_KIT/out}" && pwd)
SCALE=${SCALE:-1}
OPTIONS=${OPTIONS:-}
FULL_SIZE_OPTIONS=${FULL_SIZE_OPTIONS:-}
program=$GPU_KIT/program

# unpack ARCHIVE: into the program's folder, unless it is what lies there.
unpack() {
  local mark=$program/.$(basename "$1")
  if [ ! -f "$1" ] || cmp -s "$1" "$mark"; then return; fi
  mkdir -p "$program"
  # Such machines have Python, but not always xz.
  python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$1" "$program" && cp "$1" "$mark"
}

unpack "$here/program.tar.xz" && unpack "$here/../data/data.tar.xz" || exit 1
cd "$program" || exit 1

failures=0
summary=""

# job NAME SECONDS COMMAND...: the command under its limit, its output in $OUT/NAME.log
job() {
  local name=$1 limit=$(($2 * SCALE)) begin status
  shift 2
  begin=$(date +%s)
  echo "== $name"
  timeout --kill-after=10 "$limit" "$@" >"$OUT/$name.log" 2>&1
  status=$?
  [ "$status" = 0 ] || failures=$((failures + 1))
  tail -n 60 "$OUT/$name.log"
  summary="$summary$name: exit $status after $(($(date +%s) - begin)) s (limit $limit s)
"
}

# tilereel NAME.js ARGUMENTS...: nothing but what was carried can be used
run_js() {
  deno run --quiet -A --no-config --no-lock --no-remote --cached-only "$program/$1" "${@:2}"
}

info() {
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null
  run_js tilereel.js info || return
  [ -z "${TILEREEL_DAWN:-}" ] || run_js tilereel.js info --gpu dawn
}

# Twice: the driver keeps compiled kernels, so that the second run starts faster.
demo() {
  for run in 1 2; do
    run_js tilereel.js generate "a big red circle moving right on a black background" --seed 1 --json --out "$OUT/demo.mp4" "$@" || return
  done
}

export program OUT
export -f run_js info demo

[ $# -gt 0 ] || set -- info parity bench sparse demo full_size full_size_f16
for name in "$@"; do
  # shellcheck disable=SC2086  # options are several words
  case $name in
    info) job info 30 bash -c info ;;
    parity) job parity 150 bash -c 'run_js tilereel.js parity "$@"' parity $OPTIONS ;;
    sparse) job sparse 60 bash -c 'run_js sparse.js "$@"' sparse $OPTIONS ;;
    bench) job bench 100 bash -c 'run_js bench.js "$@"' bench $OPTIONS ;;
    demo) job demo 50 bash -c 'demo "$@"' demo $OPTIONS ;;
    full_size) job full_size 120 bash -c 'run_js full_size.js --precision f32 "$@"' full_size $OPTIONS $FULL_SIZE_OPTIONS ;;
    full_size_f16) job full_size_f16 110 bash -c 'run_js full_size.js --precision f16 "$@"' full_size $OPTIONS $FULL_SIZE_OPTIONS ;;
    *)
      echo "run.sh: no job is called $name" >&2
      failures=$((failures + 1))
      ;;
  esac
done
printf '== summary\n%s' "$summary" | tee "$OUT/summary.log"
exit $((failures > 0))
