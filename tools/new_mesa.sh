#!/usr/bin/env bash
# Runs a command in a Debian unstable of its own, whose Mesa has a software Vulkan with all that Dawn asks for, matrix
# units included. So kernels for tensor cores are tested on a machine that has none:
#
#   tools/new_mesa.sh env TILEREEL_TEST_GPU=dawn deno test -A --no-check tests/gpu/ops/ops_test.ts
#
# Debian or Ubuntu, as root. The first run takes a minute and 400 MB in $NEW_MESA (/opt/new_mesa by default). The checkout,
# /tmp and /root are the same inside; so is Deno.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
new=${NEW_MESA:-/opt/new_mesa}

if [ ! -e "$new/ready" ]; then
  command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -qq -y debootstrap; } >&2
  debootstrap --variant=minbase --include=mesa-vulkan-drivers,libvulkan1 sid "$new" >&2
  touch "$new/ready"
fi
deno=$(deno eval 'console.log(Deno.execPath())')
mkdir -p "$new/usr/local/bin"
cmp -s "$deno" "$new/usr/local/bin/deno" || cp "$deno" "$new/usr/local/bin/deno"

# Mounted for this command alone: nothing of the machine is left in the folder for someone who deletes it.
folders="/proc /dev /sys /tmp /root $root"
for folder in $folders; do mkdir -p "$new$folder"; done
export new root folders
exec unshare --mount --propagation private bash -c '
  for folder in $folders; do mount --rbind "$folder" "$new$folder"; done
  exec chroot "$new" env --chdir="$root" XDG_RUNTIME_DIR=/tmp "$@"' new_mesa "$@"
