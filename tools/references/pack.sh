#!/bin/bash
# Puts into .carry/references/ (keep it ignored: neither package is ever committed) what make_references.py needs on the
# GPU machine beside this folder and model/demo. usage: tools/references/pack.sh DIFFUSERS_GIT_DIR VORTA_GIT_DIR
set -euo pipefail
cd "$(dirname "$0")/../.."
rm -rf .carry/references
mkdir -p .carry/references
git -C "$1" archive HEAD src/diffusers | gzip -9 >.carry/references/diffusers.tar.gz
git -C "$2" archive HEAD vorta | gzip -9 >.carry/references/vorta.tar.gz
du -sh .carry/references
