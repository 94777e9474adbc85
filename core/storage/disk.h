/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel tells of the block device below a file, as far as it matters for
 * the order and the size of reads. A partition counts as the disk that it is on.
 */
#ifndef GDS_STORAGE_DISK_H
#define GDS_STORAGE_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct disk {
	dev_t number;
	char name[32];          /* "nvme0n1"; "0:45" of what is no block device */
	bool rotational;        /* its heads seek */
	uint32_t optimal_bytes; /* that reads are best a multiple of; 0 where not told */
};

/* The disk of a block device, or of a file system's device number. */
void disk_look(dev_t device, struct disk *disk);

/* The largest transfer of at most `bytes` that suits the disk: a multiple of 4096. */
uint32_t disk_transfer_bytes(const struct disk *disk, uint32_t bytes);

#endif
