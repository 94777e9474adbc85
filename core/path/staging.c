/* SPDX-License-Identifier: Apache-2.0 */
#include "path/staging.h"

#include "base/bits.h"
#include "base/error.h"
#include "memory/pages.h"

#include <errno.h>
#include <stdlib.h>

/* The part of the memory that small chunks get. */
#define SMALL_SHARE 16

void staging_layout(struct staging_pool pools[STAGING_SIZES], size_t bytes, uint32_t transfer_bytes)
{
	uint32_t small_count = (uint32_t)(bytes / SMALL_SHARE / STAGING_SMALL_BYTES);
	uint32_t large_bytes = (uint32_t)max_u64(transfer_bytes, STAGING_SMALL_BYTES);

	pools[STAGING_SMALL] = (struct staging_pool){
		.chunk_bytes = STAGING_SMALL_BYTES,
		.count = small_count,
	};
	bytes -= staging_bytes(&pools[STAGING_SMALL]);
	pools[STAGING_LARGE] = (struct staging_pool){
		.chunk_bytes = large_bytes,
		.count = (uint32_t)(bytes / large_bytes),
	};
}

size_t staging_bytes(const struct staging_pool *pool)
{
	return (size_t)pool->count * pool->chunk_bytes;
}

int staging_open_chunks(struct staging_pool *pool)
{
	pool->free = calloc(pool->count, sizeof(*pool->free));
	if (!pool->free)
		return gds_fail_errno(ENOMEM, "cannot keep %u chunks of staging memory",
				      pool->count);
	pool->free_count = 0;
	for (uint32_t chunk = pool->count; chunk-- > 0;)
		pool->free[pool->free_count++] = chunk;
	return 0;
}

int staging_open(struct staging_pool *pool)
{
	int err = staging_open_chunks(pool);

	if (err)
		return err;
	pool->memory = pages_map(staging_bytes(pool));
	if (pool->memory)
		return 0;
	staging_close(pool);
	return gds_fail_errno(ENOMEM, "cannot allocate %zu bytes of staging memory",
			      staging_bytes(pool));
}

void staging_close(struct staging_pool *pool)
{
	pages_unmap(pool->memory, staging_bytes(pool));
	free(pool->free);
	pool->memory = NULL;
	pool->free = NULL;
}

uint32_t staging_take(struct staging_pool *pool)
{
	return pool->free_count ? pool->free[--pool->free_count] : STAGING_NONE;
}

void staging_give(struct staging_pool *pool, uint32_t chunk)
{
	pool->free[pool->free_count++] = chunk;
}
