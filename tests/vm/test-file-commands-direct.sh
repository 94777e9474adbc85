#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The command line on files, in kernel/vm: a model on each file system, on a drive itself,
# on a logical volume over two and on a RAID 0 of two, read by the path dmabuf into Vulkan
# memory and compared; and what check tells a user who may read the file, not the drive.
set -u

skip()
{
	echo "$1"
	exit 77
}

bench=${GDS_BUILD_DIR:?}/bench/gds-bench
model=${GDS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gds}/models/all-MiniLM-L6-v2.safetensors
folder=/tmp/file-commands

[ "${GDS_VM:-}" = 1 ] || skip "drives are only touched in kernel/vm"
[ -b /dev/nvme2n1 ] || skip "no NVMe drives here"
"$bench" check --no-proof host /dev/nvme0n1 | grep -q "no dma-buf reads" &&
	skip "this kernel's io_uring does not read into dma-bufs"
"$bench" check --no-proof vulkan:0 /dev/nvme0n1 2>/dev/null | grep -q "dmabuf   taken" ||
	skip "no Vulkan device here whose memory drives can write to"
[ -r "$model" ] || {
	echo "no model in the cache (scripts/fetch-model gets it): random bytes take its place"
	model=/tmp/model
	head -c 25000003 /dev/urandom >$model
}

failed=0
fail()
{
	echo "FAILED: $1"
	failed=1
}

# quietly COMMAND...: one that must succeed, and has something to say only if it does not.
quietly()
{
	"$@" >/tmp/quietly.log 2>&1 </dev/null || {
		cat /tmp/quietly.log
		echo "$* failed"
		exit 1
	}
}

# On a whole disk of 8 GiB, the last of which is bad: ext4 and btrfs keep away from there.
make_file_system()
{
	local file_system=$1 disk=$2 force=-f
	[ "$file_system" = ext4 ] && force=-F
	quietly wipefs -aq "$disk"
	quietly "mkfs.$file_system" -q $force "$disk"
	mkdir -p $folder
	quietly mount "$disk" $folder
	quietly cp "$model" $folder/model
	quietly sync
}

read_model()
{
	local on=$1 disk=$2
	for file_system in ext4 xfs btrfs; do
		make_file_system $file_system "$disk"
		echo "$ gds-bench read $folder/model --device vulkan:0 --path dmabuf --verify" \
			"  # $file_system on $on"
		"$bench" read $folder/model --device vulkan:0 --path dmabuf --verify ||
			fail "$file_system on $on"
		quietly umount $folder
	done
}

volumes()
{
	local config='activation{udev_sync=0 udev_rules=0}'
	local lvm=(--config "$config" -q -y)
	quietly vgcreate "${lvm[@]}" gds /dev/nvme0n1 /dev/nvme2n1
	# The first drive gives 500 MiB only, so that the volume goes on on the second.
	quietly lvcreate "${lvm[@]}" -l 125 -n linear gds /dev/nvme0n1
	quietly lvextend "${lvm[@]}" -L 2G gds/linear /dev/nvme2n1
	read_model "a logical volume" /dev/mapper/gds-linear
	quietly vgremove "${lvm[@]}" -f gds
	quietly pvremove "${lvm[@]}" /dev/nvme0n1 /dev/nvme2n1
}

array()
{
	quietly mdadm --create /dev/md0 --run --force --level=0 --raid-devices=2 --size=2G \
		/dev/nvme0n1 /dev/nvme2n1
	read_model "a RAID 0 of two drives" /dev/md0
	quietly mdadm --stop /dev/md0
	quietly mdadm --zero-superblock /dev/nvme0n1 /dev/nvme2n1
}

# says TEXT: the last check as the user said so.
says()
{
	grep -qF -- "$1" /tmp/check.log || {
		cat /tmp/check.log
		fail "check does not say '$1'"
	}
}

check_as_user()
{
	echo "$ gds-bench check dma-heap:system $folder/model  # as a user, /dev/nvme0n1: $1"
	LD_LIBRARY_PATH=/tmp/user setpriv --reuid 65534 --regid 65534 --clear-groups \
		/tmp/user/gds-bench check dma-heap:system $folder/model >/tmp/check.log 2>&1 ||
		fail "check as a user"
	grep -E -A1 "path |dmabuf  |proven" /tmp/check.log
}

rights()
{
	make_file_system ext4 /dev/nvme0n1
	# The tree may be in a folder that is closed to others.
	mkdir -p /tmp/user && chmod 755 /tmp/user
	quietly cp "$bench" "$(ldd "$bench" | awk '$1 ~ /libgds/ { print $3 }')" /tmp/user
	chmod 644 $folder/model
	chmod 666 /dev/dma_heap/system
	chown 0:0 /dev/nvme0n1
	chmod 660 /dev/nvme0n1
	check_as_user "of another's"
	says "/dev/nvme0n1, cannot be opened: Permission denied"
	says "setfacl -m u:USER:r /dev/nvme0n1"
	says "proven:"
	grep -q "dmabuf   taken" /tmp/check.log && fail "a drive was read without the right to"
	chown 0:65534 /dev/nvme0n1
	chmod 640 /dev/nvme0n1
	check_as_user "readable for the user's group"
	says "dmabuf   taken"
	says "proven:"
	chown 0:0 /dev/nvme0n1
	quietly umount $folder
}

if [ "${GDS_TEST_ONLY:-}" != rights ]; then
	read_model "a drive" /dev/nvme1n1
	volumes
	array
fi
rights
exit $failed
