/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The route that was looked up last for a file. Where files are many, batches look a
 * route up for nearly every read: this look at the file takes no lock.
 */
#ifndef GDS_PATH_HINT_H
#define GDS_PATH_HINT_H

#include "path/route.h"
#include "storage/file.h"

/*
 * The hint, if it is of what is asked for, and is not being changed; or NULL. Its route is
 * in use as long as file, buffer and reader are, which the caller has to see to: a route
 * that is retired is taken out first. The version is looked at last, so that nothing but
 * what belongs together is believed.
 */
static inline struct route *route_hinted(struct gds_reader *reader, struct gds_file *file,
					 const struct gds_buffer *buffer, enum gds_path pinned)
{
	struct route_hint *hint = &file->hint;
	unsigned version = atomic_load_explicit(&hint->version, memory_order_acquire);
	struct route *route = atomic_load_explicit(&hint->route, memory_order_acquire);

	if (version % 2 != 0 ||
	    atomic_load_explicit(&hint->reader, memory_order_acquire) != reader ||
	    atomic_load_explicit(&hint->buffer, memory_order_acquire) != buffer ||
	    atomic_load_explicit(&hint->pinned, memory_order_acquire) != pinned ||
	    atomic_load_explicit(&hint->version, memory_order_relaxed) != version)
		return NULL;
	return route;
}

#endif
