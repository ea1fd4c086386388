#!/usr/bin/env bash
# Is this installation whole? Run at the end of an image's build; seconds, no GPU, no engine started.
#   docker/smoke.sh [FOLDER OF THE PROGRAMS]     default: those on PATH
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -gt 0 ]; then PATH=$(cd "$1" && pwd):$PATH; fi

echo "r1reward $(r1reward --version)"
r1reward recipe validate "$root/recipes/local.yaml"
ray --version
# What Python was built with is on this system, too.
python -c 'import bz2, ctypes, lzma, readline, sqlite3, ssl, zlib'
# vLLM patches the process it is imported into, so each engine has one of its own.
python -c 'import vllm, r1reward.engines.vllm_engine; print("vllm", vllm.__version__)'
python -c 'import deepspeed, r1reward.engines.deepspeed_engine; print("deepspeed", deepspeed.__version__)'
python -c 'import r1reward.actors.launch'
