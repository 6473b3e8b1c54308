#!/usr/bin/env bash
# Attack benches and a whole run on a CUDA machine without network: scripts/bench/gpu.sh OUT [WHEELS]
# WHEELS: a folder of wheels for what that machine's Python lacks (pip download --only-binary=:all: --no-deps ... beside the checkout).
# Leaves attack.json, attack.md and pipeline.txt in OUT. A victim that fails or runs out of time leaves the others' results standing.
set -uo pipefail
out=$(realpath -m "${1:?usage: gpu.sh OUT [WHEELS]}")
root=$(realpath "$(dirname "$0")/../..")
python=${PYTHON:-python3}
mkdir -p "$out"
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if [ $# -gt 1 ]; then
  "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$2"/*.whl || exit
fi
export PYTHONPATH="$root/pipeline:$root/transforms:$site" PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { echo "torch sees no GPU here" >&2; exit 2; }
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true
for victim in resnet50 resnet18 densenet121 unet2d unet3d segresnet3d retinanet; do
  timeout "${LIMIT_S:-180}" "$python" "$root/scripts/bench/attack.py" "$victim" --device cuda --steps 10 --rounds 5 --threads 8 --out "$out" \
    || echo "$victim: not measured (exit $?)" >&2
done
for codec in gzip szip; do
  timeout "${LIMIT_S:-180}" "$python" "$root/scripts/bench/pipeline.py" --device cuda --network torchvision:resnet50 --size 224 \
    --batch-size 256 --pictures 4096 --rounds 3 --jpeg --precision auto --codec "$codec" 2>&1 | tee -a "$out/pipeline.txt" \
    || echo "whole run with $codec: not measured" >&2
done
"$python" "$root/scripts/bench/attack.py" --report --out "$out" >/dev/null
ls -l "$out"
