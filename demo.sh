#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Streams a real file into the memory of a GPU, or of the software device that
# stands in for one, and proves it byte by byte. Installs and builds what it needs.
set -euo pipefail

usage()
{
    cat <<'END'
Usage: ./demo.sh [FILE]

Installs what is missing, builds, reads FILE into the memory of the first Vulkan
device, and proves it: every byte is compared with a separate read of the file, and
the checksum that the device computed with the one of the CPU.

Without FILE it takes the weights of a small real model, all-MiniLM-L6-v2 (90 MB,
from PyPI); where that cannot be had, a file of this machine over 50 MB.

On a machine without a GPU the device is Mesa's lavapipe, which runs on the CPU.

  --no-install  do not install packages
  -h, --help    this text

Downloads are kept in ${GDS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gds}.
END
}

install=true
file=
for argument; do
    case $argument in
    -h | --help) usage; exit 0 ;;
    --no-install) install=false ;;
    -?*) usage >&2; exit 2 ;;
    *)
        if [[ -n $file || -z $argument ]]; then usage >&2; exit 2; fi
        file=$argument
        ;;
    esac
done

refuse()
{
    echo "demo.sh: $file: $1" >&2
    exit 1
}

# Checked here, before minutes of installing, and made absolute before the cd.
if [[ -n $file ]]; then
    [[ -e $file ]] || refuse "no such file"
    [[ ! -d $file ]] || refuse "is a directory; name a file in it"
    [[ -f $file || -b $file ]] || refuse "neither a regular file nor a block device"
    [[ -r $file ]] || refuse "no permission to read it"
    [[ -b $file || -s $file ]] || refuse "is empty: there is nothing to read"
    file=$(readlink -f -- "$file")
fi

cd "$(dirname "$(readlink -f "$0")")"
. scripts/common.sh
mkdir -p "$GDS_CACHE"

# A file of this machine that is large enough to be worth streaming.
large_file()
{
    local found
    found=$(find /usr /opt /var -xdev -type f -readable -size +50000k -size -2000000k \
        -print -quit 2>/dev/null) || true
    [[ -n $found ]] || fail "no file over 50 MB found: name one, ./demo.sh FILE"
    echo "$found"
}

choose_file()
{
    if ! scripts/fetch-model "$GDS_CACHE/models"; then
        echo "The model cannot be had here: taking a file of this machine instead." >&2
        large_file
    fi
}

if $install; then
    echo "[1/4] Packages"
    if [[ -n $(scripts/install-packages --print build demo) ]]; then
        echo "      installing (about a minute) ..."
        quietly "$GDS_CACHE/demo-packages.log" scripts/install-packages build demo || exit 1
    fi
fi

echo "[2/4] Build"
quietly "$GDS_CACHE/demo-build.log" build_preset release || exit 1
bench=build-release/bench/gds-bench

echo "[3/4] File"
[[ -n $file ]] || file=$(choose_file)
echo "      $file"

echo "[4/4] Read"
scripts/say-device "$bench" vulkan:0
exec "$bench" read "$file" --device vulkan:0 --verify
