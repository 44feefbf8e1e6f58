#!/usr/bin/env bash
# Every benchmark of the transform on a GPU in one command, a few minutes in all (each is cut off so that the whole ends
# within 9); run it again to go on where parts were cut:
#     bash benchmarks/gpu_all.sh benchmarks/results/DEVICE
# PYTHON names the interpreter (default: python) that has the package installed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
out="${1:?usage: gpu_all.sh FOLDER, where the JSON files go}"
python="${PYTHON:-python}"
failed=0

run() {  # seconds, suite, arguments…
    local seconds="$1" suite="$2"
    shift 2
    echo "== $suite"
    timeout "$seconds" "$python" -m diffcore_gpu bench "$suite" "$@" --json "$out/${suite//-/_}.json" ||
        { echo "$suite failed ($?)"; failed=1; }
}

run 200 bandwidth
run 45 host-overhead --device cuda
run 110 peers --device cuda --batch 16 64 128 256 --dtype float32 --repeats 30
run 80 geometry --device cuda --batch 16 64 256 --repeats 20
run 80 residency --device cuda --batch 64 256 --rounds 3
exit "$failed"
