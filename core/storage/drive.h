/* SPDX-License-Identifier: Apache-2.0 */
/* What sysfs tells of a drive: its model, blocks and transfers, and where it is. */
#ifndef GDS_STORAGE_DRIVE_H
#define GDS_STORAGE_DRIVE_H

#include <stddef.h>
#include <sys/types.h>

/*
 * A line on the drive with this device number, or the one that a partition is of:
 * "nvme0n1: MODEL, blocks of 512 bytes, transfers of at most 128 KiB, PCI 0000:03:00.0,
 * NUMA node 0". What sysfs does not tell is left out.
 */
void drive_describe(dev_t device, char *text, size_t size);

#endif
