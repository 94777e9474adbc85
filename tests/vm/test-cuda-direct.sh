#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# NVMe drives read into memory that the CUDA backend has exported: the kernel, the
# drives and the dma-bufs are real, the driver is the fake of tests/fake-cuda, which
# makes its dma-bufs by udmabuf. Needs the devices of kernel/vm.
set -u

skip()
{
	echo "$1"
	exit 77
}

bench=${GDS_BUILD_DIR:?}/bench/gds-bench
export LD_LIBRARY_PATH=$GDS_BUILD_DIR/tests/fake-cuda${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

[ -w /dev/udmabuf ] || skip "no /dev/udmabuf that could be used here"
[ "${GDS_VM:-}" = 1 ] || skip "drives are only touched in kernel/vm"
[ -b /dev/nvme0n1 ] || skip "no NVMe drive here"
"$bench" check --no-proof --device cuda:0 /dev/nvme0n1 | grep -q "does not read into dma-bufs" &&
	skip "this kernel's io_uring does not read into dma-bufs"

failed=0
for drive in /dev/nvme0n1 /dev/nvme1n1; do
	[ -b $drive ] || continue
	# Whole slices, and a range that fits nothing, which goes through device scratch.
	# The checksum is that of a kernel which the fake interprets: of few bytes it is enough.
	for range in "--length 32MiB --no-checksum" "--length 64KiB" \
		"--offset 4095 --length 9000001 --no-checksum"; do
		# shellcheck disable=SC2086 # the range is several words
		"$bench" read $drive $range --device cuda:0 --path dmabuf --verify || failed=1
	done
done
exit $failed
