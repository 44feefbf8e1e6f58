#!/usr/bin/env bash
# The paper's Table 6 and Fig. 6 on a GPU: ResNet-50 at 224, batch 16, 32 and 64, in mixed precision and in float32. Each
# of the four is cut off after its share of the minutes given; run it again to go on with the next turn:
#     bash benchmarks/gpu_training.sh benchmarks/results/DEVICE [MINUTES, default 9]
# PYTHON names the interpreter (default: python) that has the package installed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
out="${1:?usage: gpu_training.sh FOLDER [MINUTES], where the JSON files go}"
minutes="${2:-9}"
python="${PYTHON:-python}"
failed=0

run() {  # share of the minutes in percent, name of the result, suite, arguments…
    local seconds=$(($1 * minutes * 60 / 100)) name="$2"
    shift 2
    echo "== $name"
    timeout "$seconds" "$python" -m diffcore_gpu bench "$@" --device cuda --json "$out/$name.json" ||
        { echo "$name failed ($?)"; failed=1; }
}

run 35 overhead overhead --amp --format channels_last --repeats 20
run 35 overhead_float32 overhead --repeats 20
run 15 batch_time batch-time --amp --format channels_last --repeats 10
run 15 batch_time_float32 batch-time --repeats 10
exit "$failed"
