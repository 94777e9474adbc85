#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what is missing, builds the project in every way it is built, and runs
# every test and check. The last line counts test cases.
set -uo pipefail

cd "$(dirname "$(readlink -f "$0")")" || exit 1
. scripts/common.sh

# The stages, in the order they run: name, the shortest run that has it, what it does.
# quick: in every run; default: not with --quick; full: only with --full; debug: likewise,
# and in a default run where the debug kernel is cached.
stages()
{
    cat <<'END'
dev      quick    gcc, warnings as errors: builds, and runs every test
clang    quick    clang, warnings as errors: builds
format   quick    C code is as clang-format leaves it
shell    quick    shellcheck finds nothing
spdx     quick    every source file names its licence
paths    quick    no path of somebody's machine stands in a file
links    quick    links of the documents lead somewhere
docs     quick    the API reference is made without a warning
tidy     default  clang-tidy finds nothing
release  default  the optimised build without assertions has no warning either
asan     default  every test under the address and undefined behaviour sanitizers
tsan     default  every test under the thread sanitizer
END
    # The kernel's part is optional: a tree without it has nothing to boot.
    if [[ -x kernel/vm ]]; then
        cat <<'END'
vm       default  the kernel's tests in a VM
direct   default  the library's tests of the direct path in a VM
vm-debug debug    the kernel's tests on the debug kernel
vm-strict full    the kernel's tests with an IOMMU that translates
vm-pt    full     the kernel's tests with an IOMMU that passes through
vm-ports full     the kernel's tests with every device below a root port of its own
vm-stock full     a kernel without the series refuses, and is otherwise the same
END
    fi
}

usage()
{
    cat <<'END'
Usage: ./test.sh [--quick | --full] [--stage NAME]... [OPTION]...

Builds and tests the project. Each test case counts once for each build it runs in;
a case that crashes, hangs or is skipped without a reason has failed. The last line
is `N passed, N failed, N skipped`, and the exit status is 0 only if something
passed and nothing failed.

  --quick       what is worth running after each change, in under two minutes once
                built: no sanitizers, no static analysis, no VM
  --full        all there is, also what takes long
  --stage NAME  run this stage alone; may be given more than once
  --list        list the stages and end
  --no-install  do not install packages
  --jobs N      jobs to build and test with (default: one for each CPU)
  -h, --help    this text

Stages, and the smallest run that has them; debug is in a full run, and in a default one
where the debug kernel is cached:
END
    stages | sed 's/^/  /'
    cat <<'END'

Results and logs are below build/test-logs/. Downloads and kernel images are kept in
${GDS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gds}.
END
}

usage_error()
{
    echo "test.sh: $1" >&2
    echo "Try ./test.sh --help." >&2
    exit 2
}

# record STAGE STATUS NAME [REASON]: one case that is no test program's.
record()
{
    printf '%s\t%s\t%s\t%s\n' "$2" "$1" "$3" "${4:-}" >>"$results"
}

# build STAGE PRESET: builds, which is a case of its own: it may warn or fail.
build()
{
    if quietly "$logs/$1-build.log" build_preset "$2"; then
        record "$1" passed "builds without a warning"
    else
        record "$1" failed "builds without a warning" "see $logs/$1-build.log"
        return 1
    fi
}

# Sanitizers reserve fixed ranges of addresses, which a kernel with more random bits
# than the compiler's runtime knows may have given away.
fixed_addresses()
{
    if setarch -R true 2>/dev/null; then setarch -R "$@"; else "$@"; fi
}

# run_ctest STAGE PRESET
run_ctest()
{
    local junit=$PWD/$logs/$1.xml
    rm -f "$junit"
    # The failures are shown below, by case; ctest itself says little.
    fixed_addresses ctest --preset "$2" --parallel "$GDS_JOBS" --output-junit "$junit" \
        --test-output-size-passed 4000000 --test-output-size-failed 4000000 \
        >"$logs/$1.log" 2>&1 </dev/null
    if [[ ! -s $junit ]]; then
        tail -n 20 "$logs/$1.log"
        record "$1" failed "ctest runs" "see $logs/$1.log"
        return 1
    fi
    scripts/results.py ctest "$1" "$junit" "$logs/$1.log" "$results"
}

# check STAGE: a check of scripts/check, as one case.
check()
{
    local status=0
    quietly "$logs/$1.log" scripts/check "$1" || status=$?
    case $status in
    0) record "$1" passed "scripts/check $1" ;;
    77) record "$1" skipped "scripts/check $1" "$(tail -n 1 "$logs/$1.log")" ;;
    *)
        record "$1" failed "scripts/check $1" "see $logs/$1.log"
        return 1
        ;;
    esac
}

# vm STAGE [OPTION...] -- COMMAND...: a command in a VM, with the options of kernel/vm.
vm()
{
    local stage=$1 status=0 options=() kernel=() program
    shift
    while [[ $1 != -- ]]; do
        options+=("$1")
        case $1 in --debug | --no-series) kernel+=("$1") ;; esac
        shift
    done
    program=${2##*/}
    if $install && ! quietly "$logs/packages-vm.log" scripts/install-packages vm; then
        record "$stage" failed "the packages of the VM" "see $logs/packages-vm.log"
        return 1
    fi
    quietly "$logs/$stage-build.log" kernel/build "${kernel[@]}" ||
        { record "$stage" failed "the kernel builds" "see $logs/$stage-build.log"; return 1; }
    [[ -x build/kernel-tests ]] || build "$stage" dev || return 1
    kernel/vm "${options[@]}" "$@" >"$logs/$stage.log" 2>&1 </dev/null || status=$?
    [[ $status -eq 0 ]] || tail -n 60 "$logs/$stage.log"
    scripts/results.py lines "$stage" "$program" "$status" "$logs/$stage.log" "$results"
}

# What the tests of the Python package compare with is nice to have: they skip what needs
# something that is missing, and say so.
prepare_python()
{
    $install || return 0
    { scripts/install-packages python && scripts/python-env; } \
        >"$logs/packages-python.log" 2>&1 </dev/null ||
        record dev skipped "the packages that the Python tests compare with" \
            "they could not be installed: see $logs/packages-python.log"
}

stage_dev() { prepare_python; build dev dev && run_ctest dev dev; }
stage_clang() { build clang clang; }
stage_format() { check format; }
stage_shell() { check shell; }
stage_spdx() { check spdx; }
stage_paths() { check paths; }
stage_links() { check links; }
stage_docs() { check docs; }
stage_tidy() { quietly "$logs/tidy-configure.log" build_preset clang && check tidy; }
stage_release() { build release release; }
stage_asan() { build asan asan && run_ctest asan asan; }
stage_tsan() { build tsan tsan && run_ctest tsan tsan; }
stage_vm() { vm vm -- build/kernel-tests; }
stage_direct()
{
    # With the model, where there is one, for the examples.
    mkdir -p "$GDS_CACHE/models"
    vm direct --timeout 3000 --share "$GDS_CACHE/models" -- tests/vm/run
}
stage_vm_debug() { vm vm-debug --debug --timeout 3000 -- build/kernel-tests; }
stage_vm_strict() { vm vm-strict --iommu strict -- build/kernel-tests; }
stage_vm_pt() { vm vm-pt --iommu pt -- build/kernel-tests; }
stage_vm_ports() { vm vm-ports --topology ports -- build/kernel-tests; }
stage_vm_stock() { vm vm-stock --no-series -- build/kernel-tests --stock; }

# Is this stage part of a run of this size?
in_run()
{
    case $2:$1 in
    quick:*) return 0 ;;
    default:quick) return 1 ;;
    default:*) return 0 ;;
    full:full | debug:full) return 0 ;;
    debug:default) kernel/build --debug --cached >/dev/null 2>&1 ;;
    *) return 1 ;;
    esac
}

choose_stages()
{
    local name level rest
    while read -r name level rest; do
        if in_run "$size" "$level"; then echo "$name"; fi
    done < <(stages)
}

run_stage()
{
    local start=$SECONDS function=stage_${1//-/_} before
    before=$(wc -l <"$results")
    echo "== $1: $(stages | awk -v name="$1" '$1 == name { $1 = $2 = ""; print substr($0, 3) }')"
    "$function"
    # A stage that neither passed nor failed anything has not done its work.
    [[ $(wc -l <"$results") -gt $before ]] || record "$1" failed "the stage runs" "it ran nothing"
    echo "   $((SECONDS - start)) s"
}

trap 'exit 130' INT TERM

size=default
install=true
export GDS_JOBS=${GDS_JOBS:-$(nproc)}
selected=()
while [[ $# -gt 0 ]]; do
    case $1 in
    --quick) size=quick ;;
    --full) size=full ;;
    --stage)
        [[ $# -ge 2 ]] || usage_error "--stage needs a name"
        stages | grep "^$2 " >/dev/null || usage_error "no such stage: $2"
        selected+=("$2")
        shift
        ;;
    --list) stages; exit 0 ;;
    --no-install) install=false ;;
    --jobs)
        [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || usage_error "--jobs needs a number"
        GDS_JOBS=$2
        shift
        ;;
    -h | --help) usage; exit 0 ;;
    *) usage_error "unknown argument: $1" ;;
    esac
    shift
done

logs=build/test-logs
results=$logs/results.tsv
mkdir -p "$logs" "$GDS_CACHE" || exit 1
: >"$results" || exit 1

if $install; then
    scripts/install-packages build test >"$logs/packages.log" 2>&1 ||
        { tail -n 20 "$logs/packages.log" >&2; fail "could not install the packages"; }
    # For the tests of the examples, which say that they were skipped where it is missing.
    scripts/fetch-model --vocabulary "$GDS_CACHE/models" >"$logs/model.log" 2>&1 || true
fi

[[ ${#selected[@]} -gt 0 ]] || mapfile -t selected < <(choose_stages)
for stage in "${selected[@]}"; do
    run_stage "$stage"
done

echo "== results after $SECONDS s"
scripts/results.py summary "$results"
