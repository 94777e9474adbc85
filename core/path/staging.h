/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Staging memory: host pages that the storage writes and devices copy from. One
 * region of fixed size per reader, cut into chunks of two sizes, so that a
 * thousand unaligned edges do not each hold a megabyte.
 */
#ifndef GDS_PATH_STAGING_H
#define GDS_PATH_STAGING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STAGING_SMALL_BYTES (UINT32_C(16) << 10)
#define STAGING_NONE        UINT32_MAX

struct staging {
	char *memory; /* NULL until staging_open() */
	size_t bytes;
	uint32_t large_bytes; /* of a large chunk */
	uint32_t small_count; /* chunks 0 .. small_count - 1 are small */
	uint32_t count;
	uint32_t *free_small; /* stacks of free chunks */
	uint32_t *free_large;
	uint32_t free_small_count;
	uint32_t free_large_count;
};

/* How the chunks would lie, without allocating: for sizing what depends on them. */
void staging_layout(struct staging *staging, size_t bytes, uint32_t transfer_bytes);

int staging_open(struct staging *staging);
void staging_close(struct staging *staging);

/* A chunk of at least `bytes`, or STAGING_NONE. At most large_bytes can be asked for. */
uint32_t staging_take(struct staging *staging, uint32_t bytes);
void staging_give(struct staging *staging, uint32_t chunk);

/* Where the chunk begins in the staging memory. */
size_t staging_offset(const struct staging *staging, uint32_t chunk);

#endif
