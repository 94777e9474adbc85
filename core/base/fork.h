/* SPDX-License-Identifier: Apache-2.0 */
/* Whether this process is still the one that made an object, or a child of it. */
#ifndef GDS_BASE_FORK_H
#define GDS_BASE_FORK_H

#include <stdatomic.h>

/* fork.c's own. */
extern atomic_uint fork_counter;

/* The count of forks as an object is made, which are counted from the first one on. */
unsigned fork_watch(void);

/* The count by now: every call on an object asks for it. */
static inline unsigned fork_count(void)
{
	return atomic_load_explicit(&fork_counter, memory_order_relaxed);
}

#endif
