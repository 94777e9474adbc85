/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Staging memory: host pages that the storage writes and devices copy from, in
 * pools of chunks of one size. A reader has a pool of small chunks, for edges and
 * small reads, and one of large chunks, each made when it is first needed: the
 * few bytes of an unaligned edge shall not cost 64 MiB of pinned memory.
 */
#ifndef GDS_PATH_STAGING_H
#define GDS_PATH_STAGING_H

#include <stddef.h>
#include <stdint.h>

#define STAGING_SMALL_BYTES (UINT32_C(16) << 10)
#define STAGING_NONE        UINT32_MAX

struct staging_pool {
	char *memory; /* of the host; NULL until staging_open(), or if it is a device's */
	uint32_t chunk_bytes;
	uint32_t count;
	uint32_t *free; /* a stack of free chunks */
	uint32_t free_count;
};

enum staging_size {
	STAGING_SMALL,
	STAGING_LARGE,
	STAGING_SIZES,
};

/* How the pools would be, without allocating: for sizing what depends on them. */
void staging_layout(struct staging_pool pools[STAGING_SIZES], size_t bytes,
		    uint32_t transfer_bytes);

/* The pool for a transfer of `bytes`, which are at most a large chunk's. */
static inline enum staging_size staging_size_for(uint32_t bytes)
{
	return bytes <= STAGING_SMALL_BYTES ? STAGING_SMALL : STAGING_LARGE;
}

size_t staging_bytes(const struct staging_pool *pool);

int staging_open(struct staging_pool *pool);
/* The chunks alone, of memory that the caller has elsewhere. */
int staging_open_chunks(struct staging_pool *pool);
void staging_close(struct staging_pool *pool);

/* A free chunk, or STAGING_NONE. */
uint32_t staging_take(struct staging_pool *pool);
void staging_give(struct staging_pool *pool, uint32_t chunk);

/* Where the chunk begins in the pool's memory. */
static inline size_t staging_offset(const struct staging_pool *pool, uint32_t chunk)
{
	return (size_t)chunk * pool->chunk_bytes;
}

#endif
