/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sysfs tells of a drive, its model, blocks and transfers, and where it is; and what
 * an NVMe drive tells itself, where the process may open it.
 */
#ifndef GDS_STORAGE_DRIVE_H
#define GDS_STORAGE_DRIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * A line on the drive with this device number, or the one that a partition is of:
 * "nvme0n1: MODEL, blocks of 512 bytes (formats 512, 4096), transfers of at most 128 KiB,
 * PCI 0000:03:00.0, NUMA node 0". What is not told is left out.
 */
void drive_describe(dev_t device, char *text, size_t size);

/*
 * Adds the formats that a namespace can have, from what it answers to Identify Namespace:
 * the bytes of a block, "+8" with so many of metadata.
 */
#define DRIVE_IDENTITY_BYTES 4096
void drive_describe_formats(const unsigned char *identity, char *text, size_t size);

/*
 * Adds to a line on a drive how far it is from the PCI device at `address`, if that is
 * not empty: the fewer hops the better, and below one switch best.
 */
void drive_describe_distance(dev_t device, const char *address, char *text, size_t size);

/*
 * The hops between two devices, from their places in sysfs: "/sys/devices/pci0000:00/
 * 0000:00:02.0/0000:01:00.0". `*bridge` tells whether they have a PCI bridge in common.
 * -1 where they are not below one host bridge.
 */
int drive_hops(const char *one, const char *other, bool *bridge);

#endif
