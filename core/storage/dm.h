/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of device-mapper, by its ioctl. */
#ifndef GDS_STORAGE_DM_H
#define GDS_STORAGE_DM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct dm_line {
	uint64_t start; /* in the device, bytes */
	uint64_t bytes;
	char type[16];
	const char *params;
};

struct dm_table {
	size_t count;
	void *answer; /* the kernel's, which the lines point into */
	struct dm_line lines[];
};

/*
 * The live table of a device. A negative errno without a message; -EACCES without
 * CAP_SYS_ADMIN.
 */
int dm_table_get(dev_t device, struct dm_table **table);
bool dm_table_same(const struct dm_table *one, const struct dm_table *other);
void dm_table_free(struct dm_table *table);

#endif
