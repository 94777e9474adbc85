/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way from a file to a buffer: which path its reads take, and within what
 * limits they are cut. Made when a reader meets the pair, and kept.
 */
#ifndef GDS_PATH_ROUTE_H
#define GDS_PATH_ROUTE_H

#include "attach.h"
#include "memory/backend.h"
#include "path/staging.h"
#include "plan/plan.h"

#include <gds/gds.h>
#include <stdatomic.h>
#include <stdbool.h>

struct gds_buffer;
struct gds_device;
struct gds_file;
struct op;

/* What a reader keeps for a file. */
struct reader_file {
	struct attachment attachment;
	struct gds_file *file;
	uint32_t slot;    /* in the lane: of the descriptor that reads now use */
	uint32_t first;   /* slot of the first one, which reads in flight may still use */
	bool direct;      /* that descriptor has O_DIRECT */
	char reason[256]; /* why not */
	struct route *routes;
};

/* What a reader keeps for a buffer. */
struct reader_buffer {
	struct attachment attachment;
	struct gds_buffer *buffer;
	struct reader_device *device;
	struct gds_path_verdict verdicts[GDS_PATH_COUNT];
	size_t slot_count;
	uint32_t slots[]; /* in the lane, one a slice; LANE_NO_BUFFER where not registered */
};

/* What a reader keeps for a device: its view of the staging memory, and copies. */
#define COPIES_AT_ONCE 64

struct reader_device {
	struct attachment attachment;
	struct gds_device *device;
	struct backend_staging *staging[STAGING_SIZES];
	struct reader_device *next; /* in the reader's list */
	/* Operations whose bytes are in staging memory, to be handed to the device. */
	struct backend_copy copies[COPIES_AT_ONCE];
	struct op *waiting[COPIES_AT_ONCE];
	size_t waiting_count;
	/* Operations that the device is copying, in the order of their tickets. */
	struct op *copying_first;
	struct op **copying_last;
};

struct route {
	struct plan_limits limits;
	struct reader_file *file;     /* NULL once the file or the buffer was closed */
	struct reader_buffer *buffer; /* NULL likewise */
	struct route *next;           /* of the same file */
	enum gds_path path;           /* of direct operations */
	enum gds_path pinned;         /* AUTO, or the one the caller asked for */
	atomic_size_t references;     /* reads of batches, in flight or not */
};

/*
 * The route between the two, made if the reader meets them for the first time.
 * Holds one reference for the caller. -EOPNOTSUPP where the pinned path cannot
 * be taken. Called by any thread.
 */
int route_get(struct gds_reader *reader, struct gds_file *file, struct gds_buffer *buffer,
	      enum gds_path pinned, struct route **route);
void route_hold(struct route *route, size_t references);
void route_put(struct route *route, size_t references);

/*
 * From now on the route's file is read through the page cache: a read with
 * O_DIRECT was refused with EINVAL. Called by the driver.
 */
int route_use_page_cache(struct gds_reader *reader, struct route *route);

/*
 * From now on the route is staged: the kernel cannot pin the buffer's memory.
 * -EOPNOTSUPP where the path is pinned. Called by the driver.
 */
int route_use_staging(struct route *route);

#endif
