#!/usr/bin/env bash
# Installs the pinned stack into a virtual environment. Used by `make setup` and by the images.
# Safe to run twice: an environment that is up to date is left alone.
#
#   docker/setup.sh [VENV]         VENV defaults to .venv
#   PYTHON=python3.12              another interpreter (3.11, on which the tests run, or 3.12)
#   R1REWARD_EXTRA=cpu|gpu         instead of asking for an NVIDIA GPU
#   R1REWARD_DEV=0                 as in the images: without the tools of tests and checks, but with the
#                                  libraries of object storage
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${1:-.venv}
python=${PYTHON:-python3}
cpu_index=https://download.pytorch.org/whl/cpu

if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'; then
    echo "setup needs Python 3.11 or 3.12; $python is $("$python" --version 2>&1). Set PYTHON=..." >&2
    exit 1
fi

extra=${R1REWARD_EXTRA:-}
if [ -z "$extra" ]; then
    if nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then extra=gpu; else extra=cpu; fi
fi

extras=$extra
if [ "${R1REWARD_DEV:-1}" != 0 ]; then extras+=,dev; else extras+=,s3,gcs; fi

state="$extras $(cat pyproject.toml constraints/cpu.txt docker/setup.sh r1reward/engines/torchvision_repair.py | cksum)"
stamp=$venv/.r1reward-setup
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$state" ]; then
    echo "$venv is up to date ($extra)"
    exit 0
fi

echo "installing the $extra stack into $venv (about 4 GB on a CPU, 12 GB with CUDA)"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# The versions that the tests passed with. vLLM's CUDA build pins another version of these than its CPU build.
constraints=$venv/constraints.txt
if [ "$extra" = gpu ]; then other='^apache-tvm-ffi=='; else other='^$'; fi
grep -v "$other" constraints/cpu.txt >"$constraints"
install=("$venv/bin/python" -m pip install --disable-pip-version-check --quiet
    --constraint "$constraints" --editable ".[$extras]")
if [ "$extra" = cpu ]; then
    # torch's CPU build lives on PyTorch's own index for most of the world.
    "${install[@]}" || {
        echo "trying again with PyTorch's CPU index"
        "${install[@]}" --extra-index-url "$cpu_index"
    }
    # Their libraries need a CUDA torch; vLLM runs without them.
    "$venv/bin/python" -m pip uninstall --disable-pip-version-check --quiet --yes torchaudio torchcodec
    "$venv/bin/python" -m r1reward.engines.torchvision_repair
else
    "${install[@]}"
fi
"$venv/bin/python" -c 'import torchvision, transformers; from transformers import Qwen2_5_VLProcessor'
echo "$state" >"$stamp"
echo "ready: $venv/bin/r1reward --help"
