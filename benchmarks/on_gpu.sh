#!/usr/bin/env bash
# Everything that needs a GPU, in one command of nine minutes: what is published first, then the tests, then profilers.
#
#     bash benchmarks/on_gpu.sh FOLDER           # 540 s
#     bash benchmarks/on_gpu.sh --more FOLDER    # 200 s: every batch size and method, with the fastest tile of the first
#
# It works from a plain checkout: nothing of the project has to be installed, and the checkout is not touched. FOLDER gets
# summary.txt (with --more summary_more.txt), results.tgz (every raw result and log) and the results that are published,
# 8 files at most, all rewritten after every stage, so that whatever cuts it off loses one stage; a run goes on from the
# results.tgz that is there. A stage that fails or runs out of time does not stop the next. The exit status is 0 only if
# no stage failed; what this machine has no program or GPU for is called skipped.
#
#     PYTHON         the interpreter that has torch (default: python3)
#     DEVICE         cuda, or cpu: the same stages at toy size, to rehearse without a GPU
#     WHEELS         folder of wheels for what the interpreter lacks (default: .whl), see on_gpu_bundle.sh
#     LIMIT_PERCENT  of the seconds that the stages and the whole may take (default: 100)
# shellcheck disable=SC2329  # functions are run by a trap, and by stages in shells of their own
set -uo pipefail

usage() {
    echo "usage: [DEVICE=cpu] [PYTHON=…] on_gpu.sh [--more] FOLDER, which the results go to" >&2
    exit 2
}
more=0
[[ ${1:-} == --more ]] && { more=1; shift; }
[[ $# == 1 && $1 != -* && -n $1 ]] || usage
device="${DEVICE:-cuda}"
[[ $device == cuda || $device == cpu ]] || { echo "DEVICE is cuda or cpu, not $device." >&2; exit 2; }
percent="${LIMIT_PERCENT:-100}"
[[ $percent =~ ^[1-9][0-9]*$ ]] || { echo "LIMIT_PERCENT is a whole number from 1, not $percent." >&2; exit 2; }
python=$(command -v -- "${PYTHON:-python3}") || { echo "${PYTHON:-python3}: there is no such interpreter." >&2; exit 2; }
[[ $python == /* ]] || python="$PWD/$python"
mkdir -p "$1" && out=$(cd "$1" && pwd) || exit 2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 2
wheels="${WHEELS:-$root/.whl}"
[[ $wheels == /* ]] || wheels="$PWD/$wheels"
end=$(((more ? 200 : 540) * percent / 100))
summary=summary.txt
((more)) && summary=summary_more.txt

# A copy of the tree, in which the two packages that stand at its top are where they are imported from.
scratch=$(mktemp -d) || exit 2
tree=$scratch/tree raw=$scratch/raw
mkdir "$tree" "$raw" "$scratch/tmp"
cp -r "$root"/{diffcore_gpu,kernels,benchmarks,tests,pyproject.toml} "$tree"
ln -sfn ../kernels "$tree/diffcore_gpu/kernels"
ln -sfn ../benchmarks "$tree/diffcore_gpu/benchmarks"
cd "$tree" || exit 2
export PYTHONPATH="$tree:$scratch/site" PYTHONUNBUFFERED=1 MPLBACKEND=Agg TMPDIR="$scratch/tmp"
export TRITON_CACHE_DIR="$scratch/triton" TORCHINDUCTOR_CACHE_DIR="$scratch/inductor"
[[ -f $out/results.tgz ]] && tar xzf "$out/results.tgz" -C "$raw"

child=
stop() {
    [[ -n $child ]] && kill "$child" 2>/dev/null
    save
    exit 143
}
trap stop TERM INT
trap 'rm -rf "$scratch"' EXIT

save() {  # the summary, the archive and what is published, each complete at any moment
    {
        cat "$scratch/sections"
        printf '\n%-16s %10s %8s %8s\n' stage status seconds limit
        cat "$scratch/list"
    } >"$raw/$summary"
    tar czf "$out/results.tgz.partial" -C "$raw" . && mv "$out/results.tgz.partial" "$out/results.tgz"
    local name
    for name in "$summary" variants.json overhead.json geometry.json bandwidth.json overhead_all.json; do
        [[ -f $raw/$name ]] && cp "$raw/$name" "$out/$name.partial" && mv "$out/$name.partial" "$out/$name"
    done
}

failed=0 lines=14
stage() {  # name, seconds, command…: run it, whatever comes of it
    local name=$1 limit=$(($2 * percent / 100)) left=$((end - SECONDS)) start=$SECONDS status word
    shift 2
    ((limit > left)) && limit=$left
    ((limit < 1 && left > 0)) && limit=1
    if ((limit < 1)); then
        echo "No time was left." >"$raw/$name.log"
        status=124
    else
        timeout -k 3 "$limit" "$@" >"$raw/$name.log" 2>&1 &
        child=$!
        wait "$child"
        status=$?
        child=
    fi
    case $status in
        0) word=0 ;;
        77) word=skipped ;;
        124 | 137) word="$status (time)" failed=1 ;;
        *) word=$status failed=1 ;;
    esac
    printf '%-16s %10s %8s %8s\n' "$name" "$word" "$((SECONDS - start))" "$limit" >>"$scratch/list"
    {
        printf '\n== %s: status %s, %s s of %s (at %s s)\n' "$name" "$word" "$((SECONDS - start))" "$limit" "$SECONDS"
        tail -n "$lines" "$raw/$name.log" | cut -c1-160 | iconv -c -f UTF-8 -t UTF-8
    } | tee -a "$scratch/sections"
    save
}

bench() {  # name, seconds, suite and its arguments…
    stage "$1" "$2" "$python" -m diffcore_gpu bench "${@:3}" --device "$device" --json "$raw/$1.json"
}

program() {  # where a program is, on the PATH or where CUDA and its tools are installed; fails if nowhere
    local found
    command -v "$1" && return
    for found in /usr/local/cuda/bin/"$1" /usr/local/cuda-*/bin/"$1" /opt/nvidia/nsight-compute/*/"$1"; do
        [[ -x $found ]] && { echo "$found"; return; }
    done
    found=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia
    found=$(find "$found" -name "$1" -type f -perm -u+x 2>/dev/null | head -n 1)
    [[ -n $found ]] && echo "$found"
}

set_up() {  # wheels, versions, clocks
    local missing=()
    if compgen -G "$wheels/*.whl" >/dev/null; then
        mapfile -t missing < <("$python" - "$wheels" <<'P'
import sys
from importlib import metadata
from pathlib import Path

for wheel in sorted(Path(sys.argv[1]).glob("*.whl")):
    try:
        metadata.version(wheel.name.split("-")[0])
    except metadata.PackageNotFoundError:
        print(wheel)
P
        )
        ((${#missing[@]})) && {
            "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check \
                --root-user-action ignore --target "$scratch/site" "${missing[@]}" || return
        }
    fi
    "$python" - <<'P' || return
import os
import platform
from importlib import metadata

import torch

print(f"python {platform.python_version()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
for name in ("torch", "triton", "numpy", "numba", "torchvision", "timm", "kornia", "pytest", "pytest-xdist",
             "pytest-timeout", "hypothesis", "scipy", "matplotlib"):  # fmt: skip
    try:
        print(f"{name} {metadata.version(name)}", end="; ")
    except metadata.PackageNotFoundError:
        print(f"{name} MISSING", end="; ")
print()
if torch.cuda.is_available():
    found = torch.cuda.get_device_properties(0)
    print(found.name, f"L2 {found.L2_cache_size >> 20} MiB, memory {found.total_memory >> 30} GiB, CUDA {torch.version.cuda}")
else:
    print("torch finds no GPU here")
P
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=driver_version,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,power.limit,temperature.gpu \
            --format=csv
    fi
}

profile() {  # ncu on three kernels
    local ncu
    if [[ $device == cpu ]]; then
        "$python" -m diffcore_gpu.benchmarks.ops.launches --device cpu --size 32 --batch 4 || return
        echo "There is no GPU here: the launches ran without a profiler."
        return 77
    fi
    ncu=$(program ncu) || { echo "ncu is not on this machine."; return 77; }
    "$ncu" --clock-control none --kernel-name regex:mix --launch-count 3 --metrics "$(tr -d ' \n' <<<"
        gpu__time_duration.sum, dram__bytes_read.sum, dram__bytes_write.sum,
        dram__throughput.avg.pct_of_peak_sustained_elapsed, lts__t_sector_hit_rate.pct,
        l1tex__average_t_sectors_per_request_pipe_lsu_mem_global_op_ld.ratio,
        l1tex__t_sector_hit_rate.pct, sm__warps_active.avg.pct_of_peak_sustained_active,
        launch__registers_per_thread")" \
        "$python" -m diffcore_gpu.benchmarks.ops.launches --batch 256
}

sanitize() {  # compute-sanitizer on the same three
    local sanitizer
    if [[ $device == cpu ]]; then
        echo "There is no GPU here: nothing was sanitized."
        return 77
    fi
    sanitizer=$(program compute-sanitizer) || { echo "compute-sanitizer is not on this machine."; return 77; }
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$sanitizer" --tool memcheck --error-exitcode 9 \
        "$python" -m diffcore_gpu.benchmarks.ops.launches --size 70 --batch 4
}

best_overhead() {  # the table of all methods, with the fastest tile of the first run
    local tile=()
    if [[ -f $raw/variants.json ]]; then
        tile=("$("$python" -m diffcore_gpu.benchmarks.ops.kernel_tiles best "$raw/variants.json")") || return
        echo "The fastest tile of variants.json is ${tile[0]}."
        "$python" -m diffcore_gpu.benchmarks.ops.kernel_tiles run "${tile[0]}" overhead "$@" --json "$raw/overhead_all.json"
    else
        echo "There is no variants.json here, so the kernels keep their own tile."
        "$python" -m diffcore_gpu bench overhead "$@" --json "$raw/overhead_all.json"
    fi
}

has() { "$python" -c "import $1" 2>/dev/null; }

run_tests() {  # marker, files…; in parallel where xdist is installed
    local options=(-q -p no:cacheprovider -W default --maxfail 20 -m "$1")
    shift
    has xdist && options+=(-n "$workers")
    has pytest_timeout && options+=(--timeout 60)
    "$python" -m pytest "${options[@]}" "$@"
}

# `timeout` runs programs alone: these functions go through a shell of their own.
export -f program set_up profile sanitize best_overhead has run_tests
export python device raw scratch wheels workers
do_() { stage "$1" "$2" bash -c '"$@"' on_gpu "${@:3}"; }

# Sizes: for the GPU as published, for a rehearsal as small as the suites take.
if [[ $device == cuda ]]; then
    workers=10 compilers=12
    smoke=(--processes 8)
    variants=(--batch 16 256 --size 224 --repeats 20 --dtype bfloat16 uint8 float32 float16)
    host=(--batch 16 64)
    steps=(--amp --format channels_last)
    quick=(--batch 16 32 64 --repeats 15) all=(--batch 64 16 32 --repeats 10)
    geometry=(--batch 64 256 --repeats 15)
    residency=(--batch 64 --rounds 3 --steps 12)
    peers=(--batch 16 256 --dtype float32 --repeats 20)
    bandwidth=(--repeats 15 --dtype bfloat16 uint8 float32 float16)
    some=()
else
    workers=2 compilers=2
    export OMP_NUM_THREADS=1  # the sizes are too small for threads to be worth their waiting for each other
    smoke=(--size 32 --batch 4)
    variants=(--batch 4 --size 32 --repeats 2 --dtype bfloat16 uint8)
    host=(--batch 4 --size 32 --repeats 3)
    steps=(--model resnet18 --size 32)
    quick=(--batch 4 --repeats 2 --warmup 1) all=(--batch 4 --repeats 2 --warmup 1 --methods diffcore-mix snapmix)
    geometry=(--model squeezenet1_1 --raw 40 --size 32 --batch 4 --repeats 2)
    residency=(--model squeezenet1_1 --size 32 --batch 4 --rounds 2 --steps 2)
    peers=(--batch 4 --size 32 --repeats 2)
    bandwidth=(--batch 2 4 --size 16 --repeats 2 --dtype bfloat16)
    some=(-k clipped)
fi
{
    echo "diffcore-gpu on ${device^^}, $(date -u +%Y-%m-%dT%H:%MZ)"
    ((more)) && echo "what comes after the first nine minutes"
} >"$scratch/sections"
: >"$scratch/list"

if ((more)); then
    do_ set_up 15 set_up
    lines=40
    bench bandwidth 90 bandwidth "${bandwidth[@]}" --compile-in "$compilers"
    do_ overhead_all 95 best_overhead --device "$device" "${steps[@]}" "${all[@]}"
else
    mapfile -t gpu_tests < <(grep -rl "mark\.gpu" tests --include="test_*.py" | sort)
    mapfile -t kernel_tests < <(find tests/kernels -name "test_*.py" ! -name test_ahead_of_time.py | sort)
    do_ set_up 20 set_up
    bench smoke 35 smoke "${smoke[@]}"
    lines=24
    bench variants 80 bandwidth "${variants[@]}" --tiles 8192:8 4096:4 4096:2 --compile-in "$compilers"
    bench host_overhead 25 host-overhead "${host[@]}"
    bench overhead 60 overhead "${steps[@]}" "${quick[@]}" --methods diffcore-mix mixup cutmix
    bench geometry 45 geometry "${geometry[@]}"
    do_ tests_gpu 70 run_tests "gpu and not slow" "${gpu_tests[@]}"
    do_ tests_kernels 70 run_tests "not slow" "${kernel_tests[@]}" "${some[@]}"
    bench residency 35 residency "${residency[@]}"
    lines=40
    bench peers 40 peers "${peers[@]}"
    do_ ncu 30 profile
    do_ sanitizer 30 sanitize
fi
printf '\n%-16s %10s %8s %8s\n' stage status seconds limit
cat "$scratch/list"
exit "$failed"
