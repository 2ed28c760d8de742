# Sourced on the GPU machine, from the packed kit: unpacks Deno, the Vulkan loader and Dawn, and finds NVIDIA's Vulkan
# driver. Sets GPU_KIT (where everything is unpacked, /tmp/gpu-kit by default) and TILEREEL_DAWN (what --gpu dawn loads),
# and puts Deno on PATH.
kit=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export GPU_KIT=${GPU_KIT:-/tmp/gpu-kit} XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}
# ldconfig is not on everyone's path.
export PATH="$GPU_KIT/bin:$PATH:/usr/sbin:/sbin"
export DENO_DIR="$GPU_KIT/deno-cache" DENO_NO_UPDATE_CHECK=1
mkdir -p "$GPU_KIT/bin"

# Such machines have Python, but not always xz.
unxz_to() {
  python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), open(sys.argv[2], "wb"))' "$1" "$2"
}

if [ ! -x "$GPU_KIT/bin/deno" ] && [ -f "$kit/deno.xz" ]; then
  unxz_to "$kit/deno.xz" "$GPU_KIT/bin/deno.part" && chmod +x "$GPU_KIT/bin/deno.part" &&
    mv "$GPU_KIT/bin/deno.part" "$GPU_KIT/bin/deno"
fi
if [ ! -f "$GPU_KIT/dawn.node" ] && [ -f "$kit/dawn.node.xz" ]; then
  unxz_to "$kit/dawn.node.xz" "$GPU_KIT/dawn.node.part" && mv "$GPU_KIT/dawn.node.part" "$GPU_KIT/dawn.node"
fi
if [ -f "$GPU_KIT/dawn.node" ]; then export TILEREEL_DAWN=$GPU_KIT/dawn.node; fi
if [ -d "$kit/deb" ] && ! ldconfig -p | grep -q libvulkan.so.1; then
  for package in "$kit"/deb/*.deb; do dpkg -x "$package" /; done
  ldconfig
fi
icd=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
if [ -f "$icd" ]; then export VK_DRIVER_FILES=$icd; fi
cp "$kit/unpack.sh" "$GPU_KIT/" 2>/dev/null || true
