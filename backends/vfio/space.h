/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which parts of a BAR are in use. First fit, in whole pages: buffers are few and
 * large, so a list is enough.
 */
#ifndef GDS_BACKENDS_VFIO_SPACE_H
#define GDS_BACKENDS_VFIO_SPACE_H

#include <pthread.h>
#include <stdint.h>

struct space_range;

struct space {
	pthread_mutex_t lock;
	uint64_t bytes;
	struct space_range *used; /* by their place */
};

void space_init(struct space *space, uint64_t bytes);
/* Forgets what is in use. */
void space_destroy(struct space *space);

/* Takes `bytes`, which are not 0. Returns 0, -ENOSPC or -ENOMEM. Thread safe. */
int space_take(struct space *space, uint64_t bytes, uint64_t *offset);
/* Gives back what was taken at `offset`. Thread safe. */
void space_give(struct space *space, uint64_t offset);

uint64_t space_free_bytes(struct space *space);

#endif
