/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a block device stands on: found out through sysfs, and for device-mapper by
 * its ioctl. The result is a volume (volume.h) over numbered disks, which are what
 * the direct path reads from, and the means to see later whether it still holds.
 */
#ifndef GDS_STORAGE_STACK_H
#define GDS_STORAGE_STACK_H

#include "storage/volume.h"

#include <gds/gds.h>
#include <stdbool.h>
#include <sys/types.h>

#define STACK_DISKS_MAX 64

/* A disk, or a partition whose disk the process may not open. */
struct stack_disk {
	dev_t device;
	int fd; /* with O_DIRECT; read only */
	uint32_t block_bytes;
	char name[64]; /* as the kernel calls it: "nvme0n1" */
};

struct stack_watch;

/* Whether the device is one of device-mapper or md, whose driver takes no dma-bufs. */
bool stack_is_volume(dev_t device);

struct stack {
	dev_t device;          /* on top: what stat(2) gives for files */
	int btrfs_fd;          /* a file of the btrfs on top, which has a map of its own; else -1 */
	uint64_t outgrown_ns;  /* when that was last looked at for new chunks */
	struct volume *volume; /* on top; NULL where it could not be found out anew */
	struct volume *volumes; /* all of them */
	size_t disk_count;
	struct stack_disk disks[STACK_DISKS_MAX];
	uint64_t generation;         /* rises when something of it has changed */
	uint64_t checked;            /* the last check's number */
	struct stack_watch *watches; /* what tells whether all this has changed */
	char text[256];              /* "md0 (RAID 0 of nvme0n1, nvme1n1)" */
};

/*
 * Finds out what the file system of the file `fd`, whose st_dev is `device`, stands on,
 * and opens the disks, with this process's own
 * rights. Where that cannot be done, or the bytes below are not those above:
 * -EOPNOTSUPP, with the reason and a remedy in `verdict`. -ENOMEM with a message.
 */
int stack_open(dev_t device, int fd, struct stack **stack, struct gds_path_verdict *verdict);
void stack_close(struct stack *stack);

/*
 * Whether the volumes are as they were found: a mirror may have lost a member, a
 * logical volume been moved. If not, they are found out anew, in a new generation;
 * disks keep their numbers. Done once for each number, which is never 0. Costs
 * nothing where no volume can change.
 */
bool stack_confirm(struct stack *stack, uint64_t check);

/*
 * A place was looked for that the stack does not have. Whether it is worth looking
 * again: a btrfs may have grown.
 */
bool stack_outgrown(struct stack *stack);

#endif
