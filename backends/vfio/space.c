/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/space.h"

#include <errno.h>
#include <stdlib.h>

struct space_range {
	uint64_t offset;
	uint64_t bytes;
	struct space_range *next;
};

void space_init(struct space *space, uint64_t bytes)
{
	pthread_mutex_init(&space->lock, NULL);
	space->bytes = bytes;
	space->used = NULL;
}

void space_destroy(struct space *space)
{
	while (space->used) {
		struct space_range *range = space->used;

		space->used = range->next;
		free(range);
	}
	pthread_mutex_destroy(&space->lock);
}

/* The link before the first gap that is large enough, or NULL. */
static struct space_range **find_gap(struct space *space, uint64_t bytes, uint64_t *offset)
{
	struct space_range **link = &space->used;

	*offset = 0;
	while (*link && (*link)->offset - *offset < bytes) {
		*offset = (*link)->offset + (*link)->bytes;
		link = &(*link)->next;
	}
	return *link || space->bytes - *offset >= bytes ? link : NULL;
}

int space_take(struct space *space, uint64_t bytes, uint64_t *offset)
{
	struct space_range *range = malloc(sizeof(*range));
	struct space_range **link;

	if (!range)
		return -ENOMEM;
	pthread_mutex_lock(&space->lock);
	link = find_gap(space, bytes, offset);
	if (link) {
		*range = (struct space_range){ .offset = *offset, .bytes = bytes, .next = *link };
		*link = range;
	}
	pthread_mutex_unlock(&space->lock);
	if (link)
		return 0;
	free(range);
	return -ENOSPC;
}

void space_give(struct space *space, uint64_t offset)
{
	struct space_range **link = &space->used;
	struct space_range *range;

	pthread_mutex_lock(&space->lock);
	while (*link && (*link)->offset != offset)
		link = &(*link)->next;
	range = *link;
	if (range)
		*link = range->next;
	pthread_mutex_unlock(&space->lock);
	free(range);
}

uint64_t space_free_bytes(struct space *space)
{
	uint64_t bytes = space->bytes;

	pthread_mutex_lock(&space->lock);
	for (const struct space_range *range = space->used; range; range = range->next)
		bytes -= range->bytes;
	pthread_mutex_unlock(&space->lock);
	return bytes;
}
