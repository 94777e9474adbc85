/* SPDX-License-Identifier: Apache-2.0 */
/* What sysfs says of block devices. Names are below /sys/dev/block/MAJOR:MINOR/. */
#ifndef GDS_STORAGE_SYSFS_H
#define GDS_STORAGE_SYSFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SYSFS_PATH_BYTES  320
#define SYSFS_VALUE_BYTES 512

/*
 * Reads a decimal number, or "MAJOR:MINOR", behind blanks at `*at`, which is then moved
 * behind it. False where there is none.
 */
bool text_number(const char **at, uint64_t *number);
bool text_device(const char **at, dev_t *device);

/* Where the attribute is. */
void sysfs_path(char *path, size_t size, dev_t device, const char *name);

/* Its value, without the line's end; cut to `size`. A negative errno without a message. */
int sysfs_text(const char *path, char *value, size_t size);

int sysfs_get(dev_t device, const char *name, char *value, size_t size);
bool sysfs_has(dev_t device, const char *name);
/* A number in decimal. */
int sysfs_number(dev_t device, const char *name, uint64_t *number);
/* "MAJOR:MINOR". */
int sysfs_device(dev_t device, const char *name, dev_t *found);
/* The kernel's name for the device: "nvme0n1p1". */
int sysfs_name(dev_t device, char *name, size_t size);

#endif
