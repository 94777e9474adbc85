#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The examples and the demo in kernel/vm, where an NVMe drive writes into the memory that they work in:
# each must say that its bytes came by the path dmabuf, and all of them. It prints its cases
# as cmocka does.
#
# shellcheck disable=SC2317  # the cases are called by name
set -uo pipefail

examples=${GDS_BUILD_DIR:?}/examples
model=${GDS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gds}/models/all-MiniLM-L6-v2.safetensors
output=$(mktemp) || exit 1
trap 'rm -f "$output"' EXIT

skip()
{
	echo "$1"
	exit 77
}

[ "${GDS_VM:-}" = 1 ] || skip "needs the drives of kernel/vm"

fail()
{
	echo "$1:"
	cat "$output"
	exit 1
}

need_model()
{
	[ -r "$model" ] || skip "no model in the cache: scripts/fetch-model gets it"
}

# runs COMMAND...: its output is kept in $output.
runs()
{
	[ -x "$1" ] || skip "${1##*/} was not built: cmake said what it lacks"
	"$@" >"$output" 2>&1 || fail "$1 failed"
}

says()
{
	grep -qE "$1" "$output" || fail "it does not say '$1'"
}

vulkan_minimal_adds_up_what_the_drive_wrote()
{
	local sum
	sum=$(python3 -c "
import array
words = array.array('I', open('/dev/nvme0n1', 'rb').read(16 << 20))
print(f'0x{sum(words) & 0xffffffff:08x}')")
	runs "$examples/vulkan-minimal" /dev/nvme0n1
	says "^$sum is the sum of 16777216 bytes, 16777216 of them by the path dmabuf"
}

nearest_answers_from_the_matrix_that_the_drive_wrote()
{
	need_model
	dd if="$model" of=/dev/nvme1n1 bs=1M count=48 seek=1 oflag=direct status=none
	runs "$examples/nearest" --model /dev/nvme1n1 --at $((1 << 20)) \
		--vocabulary "${model%.safetensors}.vocabulary.txt" king
	says "^  by the path dmabuf, 46886912 bytes, in .*; the GPU's queue waited for it"
	says "^   1  0.6904  kings$"
	says "^Checked against the CPU: 30522 cosines"
}

custom_backend_exports_memory_that_the_drive_writes()
{
	local crc
	crc=$(python3 -c "
import zlib
print(f'{zlib.crc32(open(\"/dev/nvme0n1\", \"rb\").read(9000000)):08x}')")
	# Also the last, partial block: a copy within the device brings it.
	runs "$examples/custom-backend" memfd:card /dev/nvme0n1 9000000
	says "^9000000 bytes by the path dmabuf$"
	says "^CRC-32 $crc, of the buffer and of its memfd"
}

uring_dmabuf_reads_without_gds()
{
	runs "$examples/uring-dmabuf" /dev/nvme0n1
	says "^65536 bytes of /dev/nvme0n1: all as an ordinary read gives them$"
}

the_demo_reads_a_file_that_it_put_on_the_drive()
{
	need_model
	runs scripts/demo-direct "${GDS_BUILD_DIR:?}/bench/gds-bench" "$model"
	says "  dmabuf +uring .*  17279aed +17279aed +verified$"
}

# Mesa's lavapipe compiles and runs narrow code faster where the CPU is emulated.
export LP_NATIVE_VECTOR_WIDTH=128
head -c 16M /dev/urandom | dd of=/dev/nvme0n1 bs=1M oflag=direct iflag=fullblock status=none ||
	exit 1

status=0
run_case()
{
	local result
	echo "[ RUN      ] $1"
	("$1")
	result=$?
	case $result in
	0) echo "[       OK ] $1" ;;
	77) echo "[  SKIPPED ] $1" ;;
	*) echo "[  FAILED  ] $1"; status=1 ;;
	esac
}

run_case vulkan_minimal_adds_up_what_the_drive_wrote
run_case nearest_answers_from_the_matrix_that_the_drive_wrote
run_case custom_backend_exports_memory_that_the_drive_writes
run_case uring_dmabuf_reads_without_gds
run_case the_demo_reads_a_file_that_it_put_on_the_drive
exit $status
