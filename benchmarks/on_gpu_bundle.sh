#!/usr/bin/env bash
# Wheels for a GPU machine without a network: what benchmarks/on_gpu.sh needs and such machines lack.
#
#     bash benchmarks/on_gpu_bundle.sh .whl      # where on_gpu.sh looks for them
#
# For Python 3.12 on Linux, x86-64. PYTHON names an interpreter that has pip (default: python3). The folder is made anew;
# more than 30 MB are refused, so that it can be sent along with the project.
set -euo pipefail
[[ $# == 1 && $1 != -* && -n $1 ]] || { echo "usage: [PYTHON=…] on_gpu_bundle.sh FOLDER, which the wheels go to" >&2; exit 2; }
folder=$1
packages=(kornia kornia_rs simplejpeg)
most=30000000
if [[ -d $folder ]] && find "$folder" -mindepth 1 ! -name '*.whl' | grep -q .; then
    echo "$folder holds more than wheels; name another folder." >&2
    exit 2
fi
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
"${PYTHON:-python3}" -m pip download --quiet --no-deps --only-binary :all: --disable-pip-version-check \
    --python-version 3.12 --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 --dest "$new" "${packages[@]}"
for package in "${packages[@]}"; do
    compgen -G "$new/$package-*.whl" >/dev/null || { echo "$package: pip has brought no wheel." >&2; exit 1; }
done
bytes=$(cat "$new"/*.whl | wc -c)
if ((bytes > most)); then
    echo "The wheels are $((bytes / 1000000)) MB, more than $((most / 1000000)) MB." >&2
    exit 1
fi
mkdir -p "$folder"
rm -f "$folder"/*.whl
cp "$new"/*.whl "$folder"
ls -l "$folder"
