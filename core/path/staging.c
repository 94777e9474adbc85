/* SPDX-License-Identifier: Apache-2.0 */
#include "path/staging.h"

#include "base/bits.h"
#include "base/error.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

/* The part of the memory that is cut into small chunks. */
#define SMALL_SHARE 8

void staging_layout(struct staging *staging, size_t bytes, uint32_t transfer_bytes)
{
	size_t small = bytes / SMALL_SHARE;

	*staging = (struct staging){
		.bytes = bytes,
		.large_bytes = (uint32_t)max_u64(transfer_bytes, STAGING_SMALL_BYTES),
		.small_count = (uint32_t)(small / STAGING_SMALL_BYTES),
	};
	small = (size_t)staging->small_count * STAGING_SMALL_BYTES;
	staging->count = staging->small_count + (uint32_t)((bytes - small) / staging->large_bytes);
}

int staging_open(struct staging *staging)
{
	void *memory = mmap(NULL, staging->bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return gds_fail_errno(errno, "cannot allocate %zu bytes of staging memory",
				      staging->bytes);
	madvise(memory, staging->bytes, MADV_HUGEPAGE);
	staging->free_small = calloc(staging->count, sizeof(uint32_t));
	if (!staging->free_small) {
		munmap(memory, staging->bytes);
		return gds_fail_errno(ENOMEM, "cannot allocate staging memory");
	}
	staging->free_large = staging->free_small + staging->small_count;
	for (uint32_t chunk = staging->count; chunk-- > staging->small_count;)
		staging->free_large[staging->free_large_count++] = chunk;
	for (uint32_t chunk = staging->small_count; chunk-- > 0;)
		staging->free_small[staging->free_small_count++] = chunk;
	staging->memory = memory;
	return 0;
}

void staging_close(struct staging *staging)
{
	if (!staging->memory)
		return;
	munmap(staging->memory, staging->bytes);
	free(staging->free_small);
	staging->memory = NULL;
}

uint32_t staging_take(struct staging *staging, uint32_t bytes)
{
	if (bytes <= STAGING_SMALL_BYTES && staging->free_small_count > 0)
		return staging->free_small[--staging->free_small_count];
	if (staging->free_large_count > 0)
		return staging->free_large[--staging->free_large_count];
	return STAGING_NONE;
}

void staging_give(struct staging *staging, uint32_t chunk)
{
	if (chunk < staging->small_count)
		staging->free_small[staging->free_small_count++] = chunk;
	else
		staging->free_large[staging->free_large_count++] = chunk;
}

size_t staging_offset(const struct staging *staging, uint32_t chunk)
{
	size_t small = (size_t)staging->small_count * STAGING_SMALL_BYTES;

	if (chunk < staging->small_count)
		return (size_t)chunk * STAGING_SMALL_BYTES;
	return small + (size_t)(chunk - staging->small_count) * staging->large_bytes;
}
