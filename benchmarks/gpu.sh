#!/bin/sh
# Measure the paths that need a GPU, in at most 10 minutes: writes results/bench/gpu.json and prints its table.
# Arguments go to benchmarks/gpu.py; `--device cpu --small` tries the script itself where there is no GPU.
set -eu
cd "$(dirname "$0")/.."
exec timeout 600 "${PYTHON:-.venv/bin/python}" -m benchmarks.gpu "$@"
