# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What demo.sh and test.sh share. To be sourced from the root of the tree.

# Where things that are downloaded or take long to make are kept: never in the tree.
export GDS_CACHE=${GDS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gds}

fail()
{
    echo "${0##*/}: $*" >&2
    exit 1
}

# quietly LOG COMMAND...: runs it with its output in LOG, and shows the end of that
# only if it fails; 77 says that it could not run.
quietly()
{
    local log=$1 status=0
    shift
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if [[ $status -ne 0 && $status -ne 77 ]]; then
        echo "Failed with status $status: $*" >&2
        echo "The end of its output (all of it: $log):" >&2
        tail -n 60 "$log" >&2
    fi
    return "$status"
}

# build_preset PRESET: configures and builds one of CMakePresets.json.
build_preset()
{
    cmake --preset "$1" && cmake --build --preset "$1" --parallel "${GDS_JOBS:-$(nproc)}"
}
