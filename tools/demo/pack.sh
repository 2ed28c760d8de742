#!/bin/bash
# Puts into .carry/demo/ (which git ignores) what a training run needs beside tools/demo: diffusers'
# package, which is never committed, and the tokenizer. usage: tools/demo/pack.sh DIFFUSERS_GIT_DIR
set -euo pipefail
cd "$(dirname "$0")/../.."
rm -rf .carry/demo
mkdir -p .carry/demo
git -C "$1" archive HEAD src/diffusers | gzip -9 >.carry/demo/diffusers.tar.gz
cp -r model/demo/tokenizer .carry/demo/
du -sh .carry/demo
