#!/usr/bin/env bash
# Every benchmark of a GPU in one command, a few minutes in all (each is cut off so that the whole ends within 9):
#     bash benchmarks/gpu_all.sh benchmarks/results/DEVICE
# PYTHON names the interpreter (default: python).
set -uo pipefail
cd "$(dirname "$0")/.."
out="${1:?usage: gpu_all.sh FOLDER, where the JSON files go}"
python="${PYTHON:-python}"
failed=0

run() {  # seconds, name, arguments…
    local seconds="$1" name="$2"
    shift 2
    echo "== $name"
    timeout "$seconds" "$python" "benchmarks/$name.py" "$@" --json "$out/$name.json" || { echo "$name failed ($?)"; failed=1; }
}

run 200 bandwidth
run 45 host_overhead --device cuda
run 110 peers --device cuda --batch 16 64 128 256 --dtype float32 --repeats 30
run 80 geometry --device cuda --batch 16 64 256 --repeats 20
run 80 residency --device cuda --batch 64 256 --rounds 5
exit "$failed"
