#!/usr/bin/env bash
# Packs what a GPU machine without network needs to run tilereel.
#
# usage: tools/gpu_machine/pack.sh [DEST [PART...]]      on a machine with npm, apt-get, xz and deno
#
# DEST is .carry by default; the parts, all where none is named:
#
#   DEST/kit       Deno, the Vulkan loader and Dawn: changes with the versions of Deno and Dawn only, and is not made again
#   DEST/program   the bundled command line and benchmarks, PyTorch's baseline, the judge, and run.sh: changes with the
#                  source
#   DEST/data      the demo model
#   DEST/references   reference tensors, those of tests/fixtures; FIXTURES="tiny_hd128" takes but that
#
# There: `. DEST/kit/unpack.sh`, then `DEST/program/run.sh GROUP...`. Nothing else of the checkout is needed, so that it can
# be thinned out where what travels is limited: `git sparse-checkout set --no-cone '/*' '!/tests/fixtures/' '!/model/demo/'`
# (and `git sparse-checkout disable` after). All parts unpack into $GPU_KIT, so they may arrive one after the other where not
# everything can be sent at once: kit, program and tiny_hd128 are what most of run.sh needs; quality and demo want data,
# parity data and references.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
mkdir -p "${1:-$root/.carry}"
dest=$(cd "${1:-$root/.carry}" && pwd)
deno_version=$(deno --version | awk 'NR == 1 { print $2 }')
dawn_version=$(sed -n 's/.*"npm:webgpu@\(.*\)".*/\1/p' "$root/tools/install_dawn.ts")
version="deno $deno_version, dawn $dawn_version"
FIXTURES=${FIXTURES:-*}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

pack_kit() {
  mkdir -p "$dest/kit/deb"
  cp "$here/unpack.sh" "$dest/kit/"
  [ "$(cat "$dest/kit/version" 2>/dev/null)" = "$version" ] && return
  # The Linux binary from npm, whatever system this is.
  (cd "$work" && npm init -y >/dev/null && npm install --silent --ignore-scripts --force "@deno/linux-x64-glibc@$deno_version" >/dev/null)
  xz -9 -T0 -c "$work/node_modules/@deno/linux-x64-glibc/deno" >"$dest/kit/deno.xz"
  (cd "$root" && deno run -A --quiet --no-lock tools/install_dawn.ts --platform linux-x64 --out "$work/webgpu" >/dev/null)
  xz -9 -T0 -c "$work/webgpu/dist/linux-x64/dawn.node" >"$dest/kit/dawn.node.xz"
  # A package list of our own, so that this needs no root and works on other architectures.
  local apt="-oAPT::Architecture=amd64 -oAPT::Architectures=amd64 -oDir::State::Lists=$work/lists"
  mkdir -p "$work/lists/partial"
  apt-get $apt -qq update
  (cd "$dest/kit/deb" && apt-get $apt -qq download libvulkan1 libegl1 libglvnd0 libopengl0 libgl1 libglx0 libgles2)
  echo "$version" >"$dest/kit/version"
}

pack_program() {
  mkdir -p "$work/program" "$dest/program"
  (cd "$root" && deno run -A tools/gpu_machine/stage.ts "$work/program")
  mkdir -p "$work/program/py"
  (cd "$root/tools" && cp gpu_machine/torch_baseline.py demo/{judge,judge_settings,clips,pictures}.py demo/prompts64.txt "$work/program/py/")
  git -C "$root" rev-parse --short HEAD >"$work/program/commit"
  archive "$work/program" >"$dest/program/program.tar.xz"
  cp "$here/run.sh" "$here/quality.sh" "$dest/program/"
}

pack_data() {
  mkdir -p "$work/data" "$dest/data"
  cp -r "$root/model/demo" "$work/data/demo"
  archive "$work/data" >"$dest/data/data.tar.xz"
}

pack_references() {
  local fixtures=$work/references/tests/fixtures
  mkdir -p "$fixtures" "$dest/references"
  # shellcheck disable=SC2086  # patterns
  (cd "$root/tests/fixtures" && cp -r $FIXTURES "$fixtures/")
  archive "$work/references" >"$dest/references/references.tar.xz"
}

# Weights are floats, mostly noise: these settings see that every second or fourth byte is an exponent.
archive() {
  tar --sort=name --mtime=@0 --owner=0 --group=0 -C "$1" -c . | xz --lzma2=preset=9e,lc=0,lp=2,pb=2 -T2 -c
}

[ $# -gt 1 ] && parts=${*:2} || parts="kit program data references"
for part in $parts; do "pack_$part"; done
du -sh --apparent-size "$dest"/*
