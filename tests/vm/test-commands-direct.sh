#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The command line, by the direct path, from both controllers of kernel/vm into memory
# of every backend there is, and the thorough proof of each. GDS_TEST_BYTES says how
# much is read, such as 1GiB: into the BARs that stand for GPUs, which hold 64 MiB, in
# windows.
set -u

skip()
{
	echo "$1"
	exit 77
}

bench=${GDS_BUILD_DIR:?}/bench/gds-bench
bytes=${GDS_TEST_BYTES:-32MiB}
devices="udmabuf dma-heap:system drm:vgem drm:virtio_gpu vulkan:0"

[ "${GDS_VM:-}" = 1 ] || skip "drives are only touched in kernel/vm"
[ -b /dev/nvme1n1 ] || skip "no NVMe drives here"
"$bench" check --no-proof host /dev/nvme0n1 | grep -q "no dma-buf reads" &&
	skip "this kernel's io_uring does not read into dma-bufs"

failed=0
gds()
{
	echo "$ gds-bench $*"
	"$bench" "$@" || failed=1
}

# Bytes that differ from block to block, so that a wrong place is seen.
fill()
{
	local mebibytes

	mebibytes=$(numfmt --from=iec-i --suffix=B --to-unit=1Mi "$bytes") || exit 1
	for drive in /dev/nvme0n1 /dev/nvme1n1; do
		dd if=/dev/urandom of=$drive bs=1M count="${mebibytes%B}" iflag=fullblock \
			oflag=direct status=none || failed=1
	done
}

# PCI addresses of the BARs: the near one first.
bars()
{
	for device in /sys/bus/pci/devices/*; do
		[ "$(cat "$device/vendor" "$device/device" | tr '\n' ' ')" = "0x1af4 0x1110 " ] ||
			continue
		[ "$(basename "$(readlink "$device/driver")")" = vfio-pci ] || {
			echo vfio-pci >"$device/driver_override"
			echo "${device##*/}" >/sys/bus/pci/drivers_probe
		}
		echo "${device##*/}"
	done
}

# Behind an IOMMU the near BAR is in one group with a drive, which is in use.
into_bar()
{
	local said
	said=$("$bench" check --no-proof "vfio:$1" "$2" 2>&1) || {
		grep -q "shares its IOMMU group" <<<"$said" && {
			echo "left out: $(grep "shares its" <<<"$said")"
			return
		}
	}
	gds read "$2" --length "$bytes" --buffer-bytes 32MiB \
		--device "vfio:$1" --path dmabuf --verify
}

fill
for drive in /dev/nvme0n1 /dev/nvme1n1; do
	for device in $devices; do
		gds read $drive --length "$bytes" --device "$device" --path dmabuf --verify
	done
	for bar in $(bars); do
		into_bar "$bar" $drive
	done
	gds check udmabuf $drive --length 8MiB
done
gds read /dev/nvme0n1 --length 8MiB --device udmabuf --path dmabuf --shape v2 --verify
exit $failed
