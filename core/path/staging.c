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

int staging_open(struct staging_pool *pool)
{
	char *memory = pages_map(staging_bytes(pool));

	pool->free = calloc(pool->count, sizeof(*pool->free));
	if (!memory || !pool->free) {
		pages_unmap(memory, staging_bytes(pool));
		free(pool->free);
		pool->free = NULL;
		return gds_fail_errno(ENOMEM, "cannot allocate %zu bytes of staging memory",
				      staging_bytes(pool));
	}
	for (uint32_t chunk = pool->count; chunk-- > 0;)
		pool->free[pool->free_count++] = chunk;
	pool->memory = memory;
	return 0;
}

void staging_close(struct staging_pool *pool)
{
	if (!pool->memory)
		return;
	pages_unmap(pool->memory, staging_bytes(pool));
	free(pool->free);
	pool->memory = NULL;
}

uint32_t staging_take(struct staging_pool *pool)
{
	return pool->free_count ? pool->free[--pool->free_count] : STAGING_NONE;
}

void staging_give(struct staging_pool *pool, uint32_t chunk)
{
	pool->free[pool->free_count++] = chunk;
}
